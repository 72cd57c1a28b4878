"""Making an index anew beside the one that is searched, finding drift, and the way back.

The new index is filled from the PostgreSQL rows, compared with them document by document, and takes over the alias in
one step at a moment at which it is at least as far as the old one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from elasticsearch import AsyncElasticsearch
from sqlalchemy.ext.asyncio import AsyncEngine

from nexafi.database import async_engine, driver
from nexafi.settings import Settings
from projections.digests import Comparison
from projections.marks import Connection, Version, versions_of
from projections.search import indices
from projections.search.comparing import Comparer, Digest
from projections.search.documents import Index
from projections.search.feed import Feeder
from projections.versions import alone, frozen

log = structlog.get_logger(__name__)
#: (positions mirrored, positions there are); called after each round.
Progress = Callable[[int, int], None]
_BUILD_CHUNK = 2_000


class IndexDifferentError(RuntimeError):
    """A new index does not say what its rows say: the code that made it is wrong."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(f"{comparison.counts}: {comparison.differences[:3]}")
        self.comparison = comparison


class NoIndexError(LookupError):
    """There is no such version of the index."""


def _silent(_: int, __: int) -> None:
    """Progress that nobody watches."""


@dataclass
class _Tools:
    settings: Settings
    index: Index
    engine: AsyncEngine
    client: AsyncElasticsearch
    connection: Connection

    def feeder(self, version: Version, chunk: int = _BUILD_CHUNK) -> Feeder:
        return Feeder(self.settings, self.index, version, self.engine, self.client, chunk=chunk)

    def comparer(self, version: Version) -> Comparer:
        return Comparer(self.settings, self.index, version, self.engine, self.client)


@asynccontextmanager
async def _tools(settings: Settings, index: Index, *, exclusive: bool = True) -> AsyncIterator[_Tools]:
    async with AsyncExitStack() as stack:
        engine = async_engine(settings, "search-rebuild", pool_size=4, session={"synchronous_commit": "off"})
        stack.push_async_callback(engine.dispose)
        client = indices.client_of(settings)
        stack.push_async_callback(client.close)
        connection = await stack.enter_async_context(driver(engine))
        if exclusive:
            await stack.enter_async_context(alone(connection, index.view))
        yield _Tools(settings, index, engine, client, connection)


async def rebuild(
    settings: Settings, index: Index, *, keep: bool = True, progress: Progress = _silent
) -> Version:
    """Fill a new index from the rows, compare it with them, switch to it; the new version.

    :class:`IndexDifferentError`, and nothing is changed, when the new index does not say what the rows say.
    """
    async with _tools(settings, index) as tools:
        await _clean(tools)
        version = await indices.create(tools.connection, tools.client, settings, index, "building")
        try:
            await _fill(tools, version, progress)
            await indices.ready_to_search(tools.client, settings, index, version)
            comparison = await _equal(tools, version)
            before = await _switch(tools, version)
        except BaseException:
            await _clean(tools)
            raise
        await tools.connection.execute(
            "UPDATE views.versions SET digest = $3 WHERE view = $1 AND version = $2",
            index.view,
            version.version,
            comparison.digest,
        )
        for other in await versions_of(tools.connection, index.view):
            if other.state == "kept" and not (
                keep and before is not None and other.version == before.version
            ):
                await indices.drop(tools.connection, tools.client, settings, index, other)
        await indices.sweep(tools.connection, tools.client, settings, index)
        now = await indices.live_of(tools.connection, index)
        assert now is not None
        return now


async def verify(settings: Settings, index: Index) -> Comparison:
    """Find drift: compare the index that is searched with the rows behind it."""
    async with _tools(settings, index, exclusive=False) as tools:
        live = await indices.live_of(tools.connection, index)
        if live is None:
            raise NoIndexError(f"{index.view} has no live version: start the role search-projector")
        return await tools.comparer(live).compare()


async def digest(settings: Settings, index: Index) -> Digest:
    """Digest of the index that is searched."""
    async with _tools(settings, index, exclusive=False) as tools:
        live = await indices.live_of(tools.connection, index)
        if live is None:
            raise NoIndexError(f"{index.view} has no live version: start the role search-projector")
        return await tools.comparer(live).digest_only()


async def filled(settings: Settings, index: Index) -> int:
    """Fill a new index and drop it again; the number of documents. For measurements."""
    async with _tools(settings, index) as tools:
        await _clean(tools)
        version = await indices.create(tools.connection, tools.client, settings, index, "scratch")
        try:
            return await _fill(tools, version, _silent)
        finally:
            await _clean(tools)


async def go_back(settings: Settings, index: Index) -> Version:
    """Switch to the version that the last rebuild kept, after it has caught up; what was live is kept."""
    async with _tools(settings, index) as tools:
        kept = [v for v in await versions_of(tools.connection, index.view) if v.state == "kept"]
        if not kept:
            raise NoIndexError(f"{index.view} has no earlier version that was kept")
        version = kept[-1]
        await _retire(tools, version, retired=False)
        try:
            await _fill(tools, version, _silent)
            await indices.ready_to_search(tools.client, settings, index, version)
            await _switch(tools, version)
        except BaseException:
            await _retire(tools, version, retired=True)
            raise
        return version


async def _fill(tools: _Tools, version: Version, progress: Progress) -> int:
    """Bring a version up to its view; the number of documents that were sent."""
    feeder = tools.feeder(version)
    await feeder.open()
    done = 0
    while moved := await feeder.step(refresh=False):
        done += moved
        total = await tools.connection.fetchval(
            "SELECT coalesce(sum(position), 0)::int8 FROM views.live_marks WHERE view = $1",
            tools.index.of_view,
        )
        progress(done, max(done, total))
    return feeder.sent


async def _equal(tools: _Tools, version: Version) -> Comparison:
    comparison = await tools.comparer(version).compare(tools.feeder(version))
    if not comparison.equal:
        raise IndexDifferentError(comparison)
    return comparison


async def _switch(tools: _Tools, version: Version) -> Version | None:
    """Point the alias at ``version``; returns what was live. The old version's marks stand still meanwhile."""
    before = await indices.live_of(tools.connection, tools.index)
    async with AsyncExitStack() as stack:
        if before is not None:
            await stack.enter_async_context(frozen(tools.connection, tools.index.view, before.version))
        await _fill(tools, version, _silent)
        await tools.client.indices.refresh(index=tools.index.name(tools.settings, version.version))
        await indices.point_alias(tools.client, tools.settings, tools.index, version)
        async with tools.connection.transaction():
            if before is not None:
                await _state(tools, before, "kept")
                await _retire(tools, before, retired=True)
            await _state(tools, version, "live")
    return before


async def _state(tools: _Tools, version: Version, state: str) -> None:
    await tools.connection.execute(
        "UPDATE views.versions SET state = $3, switched_at = now() WHERE view = $1 AND version = $2",
        version.view,
        version.version,
        state,
    )


async def _retire(tools: _Tools, version: Version, *, retired: bool) -> None:
    await tools.connection.execute(
        "UPDATE views.marks SET retired = $3 WHERE view = $1 AND version = $2",
        version.view,
        version.version,
        retired,
    )


async def _clean(tools: _Tools) -> None:
    """Drop what an interrupted build left."""
    for old in await versions_of(tools.connection, tools.index.view):
        if old.state in ("building", "scratch"):
            await indices.drop(tools.connection, tools.client, tools.settings, tools.index, old)
