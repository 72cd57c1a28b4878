"""Elasticsearch mirrors rows of the PostgreSQL views: payments and transactions, for search.

Rows are read by (shard, position) above the index's own mark, so a row that changed five times is sent once. Its
external version is the row's own counter: whatever order bulks arrive in, the newest row stays. The mark moves
only after the bulk is in and the index is refreshed, so a mark means "can be found".
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

import structlog
from elasticsearch import ApiError, AsyncElasticsearch, TransportError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from nexafi.database import async_engine
from nexafi.role import RoleContext
from projections.search.documents import INDICES, Index

log = structlog.get_logger(__name__)
CHUNK: Final = 2_000
POLL_S: Final = 0.1
_RETRY_S: Final = 1.0


@dataclass(frozen=True)
class _Lane:
    index: Index
    shard: int


class Mirror:
    """All indices of this installation."""

    def __init__(self, ctx: RoleContext) -> None:
        self.ctx = ctx
        self.engine: AsyncEngine = async_engine(
            ctx.settings, "search", pool_size=2, session={"synchronous_commit": "off"}
        )
        self.client = AsyncElasticsearch(
            ctx.settings.elasticsearch, request_timeout=30, retry_on_timeout=True, max_retries=3
        )

    async def run(self) -> None:
        """Mirror until stopped."""
        health = self.ctx.health
        health.expect("search")
        try:
            while not self.ctx.stop.is_set():
                try:
                    await self._prepare()
                    health.ok("search")
                    await self._mirror()
                except (ApiError, TransportError, SQLAlchemyError, OSError) as error:
                    health.bad("search", f"{type(error).__name__}: {str(error)[:300]}")
                    log.warning("search begins anew", error=str(error)[:300])
                    await asyncio.sleep(_RETRY_S)
        finally:
            await self.client.close()
            await self.engine.dispose()

    async def _prepare(self) -> None:
        for index in INDICES:
            if not await self.client.indices.exists_alias(name=index.alias):
                name = f"{index.alias}-v1"
                if not await self.client.indices.exists(index=name):
                    await self.client.indices.create(
                        index=name, mappings=index.mappings, settings=index.settings
                    )
                await self.client.indices.put_alias(index=name, name=index.alias)
            async with self.engine.begin() as connection:
                for shard in range(self.ctx.settings.shard_count(index.service)):
                    await connection.execute(
                        text(
                            "INSERT INTO views.marks (view, version, service, shard) VALUES (:view, 1, :service, :shard) "
                            "ON CONFLICT DO NOTHING"
                        ),
                        {"view": index.view, "service": index.service, "shard": shard},
                    )

    async def _mirror(self) -> None:
        lanes = [_Lane(i, s) for i in INDICES for s in range(self.ctx.settings.shard_count(i.service))]
        while not self.ctx.stop.is_set():
            moved = [await self._step(lane) for lane in lanes]
            if not any(moved):
                await asyncio.sleep(POLL_S)

    async def _step(self, lane: _Lane) -> int:
        """Mirror one chunk of a shard; how many rows."""
        index = lane.index
        where = {"view": index.view, "service": index.service, "shard": lane.shard}
        async with self.engine.connect() as connection:
            # The view's own mark is read first: every row up to it is visible, so all up to it is mirrored below.
            top = await connection.execute(
                text(
                    "SELECT position FROM views.live_marks WHERE view = :of AND service = :service AND shard = :shard"
                ),
                {**where, "of": index.of_view},
            )
            done = await connection.execute(
                text(
                    "SELECT position FROM views.marks WHERE view = :view AND version = 1 AND service = :service AND shard = :shard"
                ),
                where,
            )
            known, mark = top.scalar() or 0, done.scalar() or 0
            if known <= mark:
                return 0
            rows = (
                (
                    await connection.execute(
                        text(index.query), {"shard": lane.shard, "after": mark, "limit": CHUNK}
                    )
                )
                .mappings()
                .all()
            )
        if rows:
            await self._bulk(index, [dict(row) for row in rows])
        # Rows have no upper bound: one that changed since the mark was read stands above it, and the version that the
        # mark promises is inside the newer one.
        following = min(known, rows[-1]["position"]) if len(rows) == CHUNK else known
        async with self.engine.begin() as connection:
            await connection.execute(
                text(
                    "UPDATE views.marks SET position = :to, updated_at = now() WHERE view = :view AND version = 1 "
                    "AND service = :service AND shard = :shard AND position = :old"
                ),
                {**where, "to": following, "old": mark},
            )
        return len(rows)

    async def _bulk(self, index: Index, rows: list[dict[str, Any]]) -> None:
        operations: list[dict[str, Any]] = []
        for row in rows:
            document = index.document(row)
            operations.append(
                {"index": {"_id": document["id"], "version": row["version"], "version_type": "external"}}
            )
            operations.append(document)
        started = time.monotonic()
        answer = await self.client.bulk(index=index.alias, operations=operations, refresh=True)
        if answer["errors"]:
            for item in answer["items"]:
                status = item["index"]["status"]
                if status == 409:
                    continue  # the index has this version or a newer one
                if status == 429:
                    raise OSError("Elasticsearch takes no more; trying again")
                # A document that the mapping refuses would be refused again: say so and go on.
                log.error(
                    "document refused",
                    index=index.alias,
                    id=item["index"]["_id"],
                    error=item["index"].get("error"),
                )
        log.debug("mirrored", index=index.alias, rows=len(rows), seconds=round(time.monotonic() - started, 3))
