"""A service's history over HTTP: the tenant's events after a token, and where history stood at a time.

The gateway reads from here what a listener has missed, so an event has the same form as on Kafka: the
attributes of its CloudEvents headers, without ``ce_``, and its data.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import orjson
from fastapi import Query, Request, Response
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from events.chain import encode_row, event_id, leaf_hash
from events.store.tables import schema_name
from nexafi.internal_auth import SCOPE_KEY
from nexafi.problems import ProblemError
from schemas.common import tokens
from schemas.common.envelope import micros, rfc3339

MAX_PAGE: Final = 1000
#: Bytes of one page; the page ends behind the event that passes it.
MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
MAX_ABOUT: Final = 8

# Batches of a shard are in order of time, so the first one at or after a time is found by halving: some thirty look-ups
# in the primary key, and no index on time that every append would pay for.
_SINCE: Final = """
WITH RECURSIVE halving (shard, low, high) AS (
    SELECT shard, 1::bigint, next_position FROM "{s}".shard_head
    UNION ALL
    SELECT h.shard,
           CASE WHEN b.time_us < :time_us THEN b.last_position + 1 ELSE h.low END,
           CASE WHEN b.time_us < :time_us THEN h.high ELSE (h.low + h.high) / 2 END
    FROM halving h
    LEFT JOIN LATERAL (
        SELECT time_us, last_position FROM "{s}".batches
        WHERE shard = h.shard AND first_position >= (h.low + h.high) / 2 ORDER BY first_position LIMIT 1
    ) b ON true
    WHERE h.low < h.high
)
SELECT shard, min(low) AS low FROM halving WHERE low >= high GROUP BY shard
"""


class HistoryQueries:
    """Reads of one service's history."""

    def __init__(self, engine: AsyncEngine, service: str) -> None:
        self._engine = engine
        self._service = service
        s = schema_name(service)
        self._heads = text(f'SELECT shard, history::text FROM "{s}".shard_head ORDER BY shard')
        self._events = text(
            "SELECT position, originator_id, originator_version, topic, metadata, state "
            f'FROM "{s}".events WHERE shard = :shard AND position > :after ORDER BY position LIMIT :limit'
        )
        self._since = text(_SINCE.replace("{s}", s))
        self._decided = text(f'SELECT recorded_at FROM "{s}".command_results WHERE command_id = :id')

    async def events(
        self,
        request: Request,
        after: Annotated[str, Query(max_length=tokens.MAX_CHARS)] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 200,
        about: Annotated[str, Query(max_length=64 * MAX_ABOUT)] = "",
    ) -> Response:
        """The caller's events after a token, shard by shard in order; ``next`` is the token to go on from.

        ``about`` (ids, separated by commas) keeps what one of them caused, correlates or is the subject or saga
        of. A page ends after ``limit`` stored events of a shard, whoever's they are, so that a tenant without events
        gets on as well; ``more`` says that something was left.
        """
        tenant = request.scope[SCOPE_KEY].tenant
        try:
            positions = tokens.decode(after)
        except tokens.MalformedTokenError as error:
            raise ProblemError("invalid-consistency-token", str(error), pointer="?after") from None
        ids = frozenset(about.split(",")) if about else None
        items: list[dict[str, Any]] = []
        more, size = False, 0
        async with self._engine.connect() as connection:
            for shard, history in (await connection.execute(self._heads)).all():
                source = f"{self._service}/{shard}"
                positions.setdefault(source, 0)
                if size > MAX_PAGE_BYTES:
                    more = True
                    break
                values = {"shard": shard, "after": positions[source], "limit": limit}
                rows = (await connection.execute(self._events, values)).all()
                more = more or len(rows) == limit
                for row in rows:
                    positions[source] = row[0]
                    if item := self._item(shard, history, row, tenant, ids):
                        items.append(item)
                        size += len(row[5])
        mine = {s: p for s, p in positions.items() if s.startswith(f"{self._service}/")}
        body = {"items": items, "next": tokens.encode(mine), "more": more}
        return Response(orjson.dumps(body), media_type="application/json")

    def _item(
        self, shard: int, history: str, row: Sequence[Any], tenant: str, about: frozenset[str] | None
    ) -> dict[str, Any] | None:
        """One stored event as a CloudEvent, or ``None`` when it is not wanted."""
        position, stream, version, topic, metadata, state = row
        meta: dict[str, Any] = orjson.loads(metadata)
        if meta.get("tenant") != tenant:
            return None
        stream = stream if isinstance(stream, UUID) else UUID(str(stream))
        subject, saga = str(stream), meta.get("saga", "")
        named = {subject, saga, meta["correlation"], meta["causation"]}
        if about is not None and not about & named:
            return None
        raw, data = bytes(metadata), bytes(state)
        leaf = leaf_hash(encode_row(shard, position, stream.bytes, version, topic.encode(), raw, data))
        item = {
            "specversion": "1.0",
            "id": event_id(leaf),
            "type": topic,
            "source": f"nexafi/{self._service}",
            "subject": subject,
            "time": rfc3339(meta["time"]),
            "datacontenttype": "application/json",
            "tenant": tenant,
            "actor": meta["actor"],
            "history": history,
            "shard": shard,
            "position": position,
            "streamversion": version,
            "correlationid": meta["correlation"],
            "causationid": meta["causation"],
        }
        if saga:
            item["sagaid"] = saga
        item["data"] = orjson.Fragment(data)
        return item

    async def since(
        self,
        request: Request,
        command: Annotated[UUID | None, Query()] = None,
        time: Annotated[str, Query(max_length=40)] = "",
    ) -> dict[str, Any]:
        """Positions before everything that was appended at ``time`` (RFC 3339) or when ``command`` was decided."""
        if request.scope[SCOPE_KEY].tenant:
            raise ProblemError("not-found")
        async with self._engine.connect() as connection:
            time_us = await self._time(connection, command, time)
            rows = (await connection.execute(self._since, {"time_us": time_us})).all()
        positions = {f"{self._service}/{shard}": low - 1 for shard, low in rows}
        return {"time": rfc3339(time_us), "positions": positions}

    async def _time(self, connection: AsyncConnection, command: UUID | None, time: str) -> int:
        if command is None:
            try:
                return micros(time)
            except ValueError as error:
                raise ProblemError("invalid-parameter", str(error)[:100], pointer="?time") from None
        row = (await connection.execute(self._decided, {"id": command})).first()
        if row is None:
            raise ProblemError("not-found")
        decided: datetime = row[0]
        return micros(decided.isoformat())
