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

from events.store.tables import schema_name
from nexafi.database import async_engine
from nexafi.internal_auth import SCOPE_KEY
from nexafi.problems import ProblemError
from nexafi.role import RoleContext
from schemas.common import tokens

MAX_PAGE: Final = 1000
_OUTCOMES: Final = {0: "accepted", 1: "rejected"}


class StoreQueries:
    """Reads of one service's store."""

    def __init__(self, engine: AsyncEngine, service: str) -> None:
        self._engine = engine
        self._service = service
        s = schema_name(service)
        self._result = text(
            f'SELECT shard, position, outcome, result FROM "{s}".command_results WHERE command_id = :id'
        )
        self._dead = text(
            f'SELECT partition, error FROM "{s}".dead_letters WHERE command_id = :id AND retried_at IS NULL LIMIT 1'
        )
        self._heads = text(
            f"SELECT shard, epoch, history::text, next_position, next_offset, encode(chain_hash, 'hex') "
            f'FROM "{s}".shard_head ORDER BY shard'
        )
        self._events = text(
            "SELECT shard, position, originator_id::text, originator_version, topic, metadata, state "
            f'FROM "{s}".events WHERE shard = :shard AND position > :after ORDER BY position LIMIT :limit'
        )

    async def result(self, request: Request, command_id: str, shard: Annotated[int, Query(ge=0)]) -> Response:
        """The stored answer of a command; ``failed`` when it lies in the dead letters; else 404."""
        _system_only(request)
        async with self._engine.connect() as connection:
            row = (await connection.execute(self._result, {"id": command_id})).first()
            if row is not None:
                body = self._body(command_id, row[0], row[1], _OUTCOMES[row[2]], orjson.loads(row[3]))
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

    async def events(
        self,
        request: Request,
        after: Annotated[str, Query(max_length=4096)] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 200,
        correlation: Annotated[str, Query(max_length=64)] = "",
    ) -> Response:
        """The caller's events after a token, shard by shard in order; ``next`` is the token to go on from.

        The page ends after ``limit`` stored events of a shard, whoever's they are, so that a tenant without
        events gets on as well.
        """
        tenant = request.scope[SCOPE_KEY].tenant
        try:
            positions = tokens.decode(after)
        except tokens.MalformedTokenError as error:
            raise ProblemError("invalid-consistency-token", str(error), pointer="?after") from None
        items: list[dict[str, Any]] = []
        more = False
        async with self._engine.connect() as connection:
            shards = [row[0] for row in (await connection.execute(self._heads)).all()]
            for shard in shards:
                source = f"{self._service}/{shard}"
                values = {"shard": shard, "after": positions.get(source, 0), "limit": limit}
                rows = (await connection.execute(self._events, values)).all()
                more = more or len(rows) == limit
                for row in rows:
                    positions[source] = row[1]
                    meta = orjson.loads(row[5])
                    if meta.get("tenant") == tenant and correlation in ("", meta.get("correlation")):
                        items.append(
                            {
                                "source": source,
                                "position": row[1],
                                "subject": row[2],
                                "type": row[4],
                                "time_us": meta["time"],
                                "correlation_id": meta.get("correlation"),
                                "data": orjson.Fragment(bytes(row[6])),
                            }
                        )
        body = {"items": items, "next": tokens.encode(positions), "more": more}
        return Response(orjson.dumps(body), media_type="application/json")


def mount(app: FastAPI, ctx: RoleContext, service: str) -> AsyncEngine:
    """Add the store's routes to a service's API; the engine is the caller's to dispose of."""
    engine = async_engine(ctx.settings, f"{service}-store", pool_size=2, statement_timeout_ms=5000)
    queries = StoreQueries(engine, service)
    app.add_api_route("/internal/results/{command_id}", queries.result)
    app.add_api_route("/internal/heads", queries.heads)
    app.add_api_route("/internal/events", queries.events)
    return engine


def _system_only(request: Request) -> None:
    if request.scope[SCOPE_KEY].tenant:
        raise ProblemError("not-found")
