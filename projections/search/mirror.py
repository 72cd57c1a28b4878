"""The role ``search-projector``: keeps the live version of every index up to date.

An index that is lost, of another release, or made from a history that was undone is made anew beside the one that
is searched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import asyncpg
import structlog
from elasticsearch import ApiError, AsyncElasticsearch, TransportError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from nexafi.database import async_engine, driver
from nexafi.role import RoleContext
from projections.marks import MarkLostError, Version
from projections.search import indices
from projections.search.documents import INDICES, Index
from projections.search.feed import DocumentRefusedError, Feeder, RewoundError
from projections.search.rebuild import rebuild
from projections.versions import RebuildRunningError, alone

log = structlog.get_logger(__name__)
POLL_S: Final = 0.1
_RETRY_S: Final = 1.0
#: How often an idle mirror looks whether its version is still the live one.
_LOOK_S: Final = 1.0
_WRONG: Final = (
    ApiError,
    TransportError,
    SQLAlchemyError,
    asyncpg.PostgresError,
    OSError,
    MarkLostError,
    DocumentRefusedError,
    RebuildRunningError,
    RuntimeError,
)


class Mirror:
    """All indices of this installation."""

    def __init__(self, ctx: RoleContext) -> None:
        self.ctx = ctx
        self.engine: AsyncEngine = async_engine(
            ctx.settings, "search", pool_size=len(INDICES) + 1, session={"synchronous_commit": "off"}
        )
        self.client: AsyncElasticsearch = indices.client_of(ctx.settings)

    async def run(self) -> None:
        """Mirror until stopped."""
        try:
            async with asyncio.TaskGroup() as keepers:
                for index in INDICES:
                    keepers.create_task(self._keep(index), name=f"mirror {index.view}")
        finally:
            await self.client.close()
            await self.engine.dispose()

    async def _keep(self, index: Index) -> None:
        health, stop = self.ctx.health, self.ctx.stop
        health.expect(index.view)
        while not stop.is_set():
            try:
                version = await self._live(index)
                await self._feed(index, version, lambda: health.ok(index.view))
            except RewoundError as error:
                log.warning("index is made anew", index=index.view, why=str(error))
                await self._anew(index)
            except _WRONG as error:
                why = f"{type(error).__name__}: {str(error)[:300]}"
                if not isinstance(error, (MarkLostError, RebuildRunningError)):
                    health.bad(index.view, why)
                log.warning("search begins anew", index=index.view, error=why)
                await self._pause(_RETRY_S)

    async def _live(self, index: Index) -> Version:
        """The live version, ready to be fed."""
        settings = self.ctx.settings
        async with driver(self.engine) as connection:
            live = await indices.live_of(connection, index)
            if live is None:
                async with alone(connection, index.view):
                    live = await indices.live_of(connection, index) or await indices.create(
                        connection, self.client, settings, index, "live"
                    )
        if live.layout != index.layout or not await self.client.indices.exists(
            index=index.name(settings, live.version)
        ):
            log.warning(
                "index is made anew", index=index.view, why="it is lost or of another release", was=live.code
            )
            live = await rebuild(settings, index, keep=False)
        await indices.point_alias(self.client, settings, index, live)
        return live

    async def _anew(self, index: Index) -> None:
        try:
            await rebuild(self.ctx.settings, index, keep=False)
        except _WRONG as error:
            self.ctx.health.bad(index.view, f"{type(error).__name__}: {str(error)[:300]}")
            await self._pause(_RETRY_S)

    async def _feed(self, index: Index, version: Version, well: Callable[[], None]) -> None:
        feeder = Feeder(self.ctx.settings, index, version, self.engine, self.client)
        await feeder.open()
        looked = time.monotonic()
        while not self.ctx.stop.is_set():
            moved = await feeder.step()
            well()
            if moved:
                continue
            if time.monotonic() - looked > _LOOK_S:
                looked = time.monotonic()
                async with driver(self.engine) as connection:
                    live = await indices.live_of(connection, index)
                if live != version:
                    return
                await feeder.open()
            await self._pause(POLL_S)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.ctx.stop.wait()
        except TimeoutError:
            return
