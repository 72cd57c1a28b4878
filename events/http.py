"""What every service's query API answers about its own store: results, heads, history.

Only the gateway asks (requests are signed, see :mod:`nexafi.internal_auth`); another service never opens this
store.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from fastapi import FastAPI, Query, Request, Response
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from events.history import HistoryQueries
from events.store.tables import schema_name
from nexafi.database import async_engine
from nexafi.internal_auth import SCOPE_KEY
from nexafi.problems import ProblemError
from nexafi.role import RoleContext

_OUTCOMES: Final = {0: "accepted", 1: "rejected"}


class StoreQueries:
    """Reads of one service's store."""

    def __init__(self, engine: AsyncEngine, service: str) -> None:
        self._engine = engine
        self._service = service
        s = schema_name(service)
        self._result = text(
            f"SELECT shard, position, outcome, result, encode(request_hash, 'hex') "
            f'FROM "{s}".command_results WHERE command_id = :id'
        )
        self._dead = text(
            f'SELECT partition, error FROM "{s}".dead_letters WHERE command_id = :id AND retried_at IS NULL LIMIT 1'
        )
        self._heads = text(
            f"SELECT shard, epoch, history::text, next_position, next_offset, encode(chain_hash, 'hex') "
            f'FROM "{s}".shard_head ORDER BY shard'
        )

    async def result(
        self,
        request: Request,
        command_id: str,
        shard: Annotated[int, Query(ge=0)],
        digest: Annotated[str, Query(max_length=64)] = "",
    ) -> Response:
        """The stored answer of a command; ``failed`` when it lies in the dead letters; else 404.

        A caller who gives the ``digest`` of his request, or its beginning, hears of a conflict when the id was used for
        another.
        """
        _system_only(request)
        async with self._engine.connect() as connection:
            row = (await connection.execute(self._result, {"id": command_id})).first()
            if row is not None:
                body = self._body(command_id, row[0], row[1], _OUTCOMES[row[2]], orjson.loads(row[3]))
                if not row[4].startswith(digest):
                    body |= {"outcome": "rejected", "result": {}, "conflict": True}
                return Response(orjson.dumps(body), media_type="application/json")
            dead = (await connection.execute(self._dead, {"id": command_id})).first()
        if dead is None or dead[0] != shard:
            raise ProblemError("not-found")
        reason = {"reason": "dead-lettered", "detail": dead[1], "pointer": None}
        return Response(
            orjson.dumps(self._body(command_id, shard, 0, "failed", reason)), media_type="application/json"
        )

    def _body(
        self, command_id: str, shard: int, position: int, outcome: str, result: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "command_id": command_id,
            "outcome": outcome,
            "service": self._service,
            "shard": shard,
            "position": position,
            "result": result,
            "conflict": False,
        }

    async def heads(self, request: Request) -> dict[str, Any]:
        """Where every shard stands."""
        _system_only(request)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(self._heads)).all()
        names = ("shard", "epoch", "history", "next_position", "next_offset", "chain_hash")
        return {"service": self._service, "shards": [dict(zip(names, row, strict=True)) for row in rows]}


def mount(app: FastAPI, ctx: RoleContext, service: str) -> AsyncEngine:
    """Add the store's routes to a service's API; the engine is the caller's to dispose of."""
    engine = async_engine(ctx.settings, f"{service}-store", pool_size=2, statement_timeout_ms=5000)
    queries = StoreQueries(engine, service)
    app.add_api_route("/internal/results/{command_id}", queries.result)
    app.add_api_route("/internal/heads", queries.heads)
    history = HistoryQueries(engine, service)
    app.add_api_route("/internal/events", history.events)
    app.add_api_route("/internal/since", history.since)
    return engine


def _system_only(request: Request) -> None:
    if request.scope[SCOPE_KEY].tenant:
        raise ProblemError("not-found")
