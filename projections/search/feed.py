"""Feeds one version of one index from the rows of its PostgreSQL view.

Rows are read by (shard, position) above the version's own mark, so a row that changed five times is sent once. A
document's external version is its row's own counter: whatever order bulks arrive in, the newest stays. The mark
moves only after the bulk is in and the index is refreshed, so a mark means "can be found".
"""

# ruff: noqa: S608 - tables and keys are declared in this package, never input
from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
import structlog
from elasticsearch import AsyncElasticsearch
from sqlalchemy.ext.asyncio import AsyncEngine

from nexafi.database import driver
from nexafi.settings import Settings
from nexafi.telemetry import PROJECTION_LAG, gauge
from projections.marks import MarkLostError, Version, lock_key
from projections.search.documents import Index

log = structlog.get_logger(__name__)

#: Rows of each shard that one round sends.
CHUNK: Final = 1_000
#: Bytes of one bulk request: a transaction may have 500 entries, and Elasticsearch refuses a request above 100 MB.
MAX_BULK_BYTES: Final = 8 * 1024 * 1024
_BEHIND: Final = gauge("nexafi.search.behind", "Positions between a PostgreSQL view and its search index.")

_LANES: Final = """
    SELECT top.service, top.shard, top.position AS known, top.history, top.event_time, m.position AS mark, m.history AS seen
    FROM views.live_marks top JOIN views.marks m
      ON m.view = $1 AND m.version = $2 AND m.service = top.service AND m.shard = top.shard AND NOT m.retired
    WHERE top.view = $3 AND (m.position <> top.position OR m.history <> top.history)
    ORDER BY top.shard"""
_MOVE: Final = """
    UPDATE views.marks m SET position = u.position, history = u.history, event_time = u.event_time, updated_at = now()
    FROM unnest($3::text[], $4::int2[], $5::int8[], $6::int8[], $7::text[], $8::int8[])
         AS u(service, shard, old, position, history, event_time)
    WHERE m.view = $1 AND m.version = $2 AND m.service = u.service AND m.shard = u.shard AND m.position = u.old
      AND NOT m.retired"""


class RewoundError(Exception):
    """The view went back, to a restored history or to other rows: what the index holds never happened."""


class BusyError(OSError):
    """Elasticsearch takes no more for now."""


class DocumentRefusedError(Exception):
    """The mapping refuses a document: the declaration is wrong, and going on would lose it from search."""


@dataclass(frozen=True)
class _Lane:
    """One shard's way to go: rows above ``mark`` up to what the view's mark ``known`` promises."""

    service: str
    shard: int
    known: int
    mark: int
    history: str
    event_time: int


class Feeder:
    """One version of one index in this process. A second feeder of it does no harm: marks are compared and swapped."""

    def __init__(
        self,
        settings: Settings,
        index: Index,
        version: Version,
        engine: AsyncEngine,
        client: AsyncElasticsearch,
        *,
        chunk: int = CHUNK,
    ) -> None:
        self.index = index
        self.version = version
        self.name = index.name(settings, version.version)
        self.sent = 0  # documents
        self._engine = engine
        self._client = client
        self._chunk = chunk
        self._rows = (
            f"SELECT r.* FROM unnest($1::int2[], $2::int8[]) AS l(shard, after), LATERAL (SELECT * FROM views.{index.table} t "
            f"WHERE t.shard = l.shard AND t.position > l.after ORDER BY t.position LIMIT {chunk}) r"
        )

    async def open(self) -> None:
        """Make marks of shards that are new to this version; safe to repeat."""
        async with driver(self._engine) as connection:
            await connection.execute(
                """INSERT INTO views.marks (view, version, service, shard)
                   SELECT $1, $2, service, shard FROM views.live_marks WHERE view = $3 ON CONFLICT DO NOTHING""",
                self.index.view,
                self.version.version,
                self.index.of_view,
            )

    async def step(self, *, refresh: bool = True) -> int:
        """Mirror what has changed, a chunk of each shard at most; the number of positions that marks moved."""
        index = self.index
        async with driver(self._engine) as connection:
            # The view's marks are read before its rows: every row up to them is visible, so all up to them is mirrored.
            found = await connection.fetch(_LANES, index.view, self.version.version, index.of_view)
            if not found:
                _BEHIND.set(0, {"view": index.view})
                return 0
            for row in found:
                if row["known"] < row["mark"] or (row["seen"] and row["seen"] != row["history"]):
                    raise RewoundError(
                        f"{index.of_view}/{row['shard']} went from {row['mark']} to {row['known']}"
                    )
            lanes = [
                _Lane(r["service"], r["shard"], r["known"], r["mark"], r["history"], r["event_time"])
                for r in found
            ]
            rows = await connection.fetch(self._rows, [n.shard for n in lanes], [n.mark for n in lanes])
        if rows:
            await self._bulk(rows, refresh=refresh)
        return await self._move(lanes, rows)

    async def _move(self, lanes: list[_Lane], rows: list[Any]) -> int:
        counts: dict[int, int] = {}
        last: dict[int, Any] = {}
        for row in rows:
            counts[row["shard"]] = counts.get(row["shard"], 0) + 1
            last[row["shard"]] = row
        moves = []
        for lane in lanes:
            to, event_time = lane.known, lane.event_time
            # Rows have no upper bound: one that changed since the view's mark was read stands above it, and the
            # version that the mark promises is inside the newer one.
            if counts.get(lane.shard, 0) >= self._chunk and last[lane.shard]["position"] < to:
                to, event_time = last[lane.shard]["position"], last[lane.shard]["updated_at"]
            moves.append((lane.service, lane.shard, lane.mark, to, lane.history, event_time))
        async with driver(self._engine) as connection, connection.transaction():
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
                lock_key(self.index.view, self.version.version),
            )
            status = await connection.execute(
                _MOVE,
                self.index.view,
                self.version.version,
                *(list(column) for column in zip(*moves, strict=True)),
            )
            if status != f"UPDATE {len(moves)}":
                raise MarkLostError(
                    f"{self.index.view} version {self.version.version}: {status} of {len(moves)}"
                )
        newest = max(event_time for *_, event_time in moves)
        if newest:
            PROJECTION_LAG.set(max(0.0, time.time() - newest / 1e6), {"view": self.index.view})
        left = sum(lane.known - move[3] for lane, move in zip(lanes, moves, strict=True))
        _BEHIND.set(left, {"view": self.index.view})
        return sum(move[3] - move[2] for move in moves)

    async def _bulk(self, rows: list[Any], *, refresh: bool) -> None:
        operations: list[bytes] = []
        for row in rows:
            for document in self.index.documents(row):
                action = {"_id": document["id"], "version": row["version"], "version_type": "external"}
                operations.append(orjson.dumps({"index": action}))
                operations.append(orjson.dumps(document))
        for part in in_parts(operations, MAX_BULK_BYTES):
            await self._send(part, refresh=refresh)

    async def _send(self, operations: Sequence[bytes], *, refresh: bool) -> None:
        answer = await self._client.bulk(
            index=self.name,
            # Lines that are encoded already; the client takes them as they are.
            operations=cast("Sequence[Mapping[str, Any]]", operations),
            refresh=refresh,
            filter_path="errors,items.*.status,items.*.error,items.*._id",
        )
        self.sent += len(operations) // 2
        if not answer["errors"]:
            return
        for item in answer["items"]:
            result = item["index"]
            if result["status"] == 429:
                raise BusyError("Elasticsearch takes no more; trying again")
            # 409: the index has this version or a newer one.
            if result["status"] >= 300 and result["status"] != 409:
                raise DocumentRefusedError(f"{self.name} {result['_id']}: {result.get('error')}")


def in_parts(operations: Sequence[bytes], limit: int) -> Iterator[Sequence[bytes]]:
    """Pairs of an action and its document in runs of at most ``limit`` bytes; a larger pair goes alone."""
    begin = size = 0
    for index in range(0, len(operations), 2):
        pair = len(operations[index]) + len(operations[index + 1]) + 2
        if size and size + pair > limit:
            yield operations[begin:index]
            begin, size = index, 0
        size += pair
    if begin < len(operations):
        yield operations[begin:]
