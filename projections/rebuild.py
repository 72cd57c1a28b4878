"""Building a version beside the live one, proving it equal, and switching to it.

The order keeps readers out of it: the new version catches up while the live one goes on; then the live runner
stands still for the moment in which the new one comes to exactly the same positions and a snapshot is opened; the
digests are compared in that snapshot while both go on; the switch is one transaction of a few milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from events.subscription import Source
from nexafi.database import async_engine, driver
from nexafi.memory import settle_heap
from nexafi.role import Health
from nexafi.settings import Settings
from projections import versions
from projections.digests import Comparison, compare
from projections.marks import Connection, Version, live_version, versions_of
from projections.projector import SESSION, Projector
from projections.registry import newest, view_of, writer_of
from projections.view import View

log = structlog.get_logger(__name__)

#: (events taken in, events there are); called after each poll.
Progress = Callable[[int, int], None]

#: The live runner is stood still only when fewer events than this are left.
_CLOSE: Final = 2_000
_MAX_ROUNDS: Final = 1_000
#: A build has nobody waiting for it: large batches change each hot row once and commit seldom.
_MAX_RECORDS: Final = 8_000
_SWITCH_TRIES: Final = 300
_SWITCH_PAUSE_S: Final = 0.2
#: Connections: two of the projector, the live marks, the snapshot, the lock.
_CONNECTIONS: Final = 6


class DifferentError(Exception):
    """The new version does not say what the live one says; ``comparison`` says where."""

    def __init__(self, view: str, comparison: Comparison) -> None:
        total = sum(comparison.counts.values())
        super().__init__(f"{view}: {total} rows differ ({comparison.counts})")
        self.comparison = comparison


class NothingKeptError(LookupError):
    """There is no earlier version to go back to."""


def _silent(_: int, __: int) -> None:
    """Progress that nobody watches."""


class Builder:
    """A version under construction beside the live one. Use :func:`building`."""

    def __init__(
        self, settings: Settings, engine: AsyncEngine, view: View, version: Version, progress: Progress
    ) -> None:
        self.view = view
        self.version = version
        self._engine = engine
        self._progress = progress
        self._projector = Projector(
            settings,
            view,
            version.version,
            engine,
            Health(),
            name=f"build/{view.name}/{version.version}",
            max_records=_MAX_RECORDS,
        )

    async def open(self) -> None:
        """Begin where the version's marks are."""
        await self._projector.open()

    async def close(self, *, broken: bool) -> None:
        """Leave Kafka and the database."""
        await (self._projector.abandon() if broken else self._projector.close())

    async def catch_up(self, connection: Connection) -> None:
        """Come close to the live version, which goes on meanwhile."""
        for _ in range(_MAX_ROUNDS):
            targets = await self._targets(connection)
            left = self._left(targets)
            await self._run_to(targets)
            if left <= _CLOSE:
                return
        raise RuntimeError(f"view {self.view.name} grows faster than it can be built")

    async def fill(self) -> None:
        """Come as far as the live version is now."""
        async with driver(self._engine) as connection:
            await self.catch_up(connection)

    @asynccontextmanager
    async def level(self, connection: Connection) -> AsyncIterator[Version]:
        """Inside, the live version stands still and this one is exactly as far; yields the live version."""
        while True:
            live = await live_version(connection, self.view.name)
            async with versions.frozen(connection, self.view.name, live.version):
                if (await live_version(connection, self.view.name)).version != live.version:
                    continue
                await self._run_to(await self._targets(connection))
                yield live
                return

    async def compare(self) -> Comparison:
        """Compare with the live version at equal positions, in one snapshot."""
        async with driver(self._engine) as connection, driver(self._engine) as reading:
            await self.catch_up(connection)
            async with reading.transaction(isolation="repeatable_read", readonly=True):
                async with self.level(connection) as live:
                    await reading.fetchval("SELECT count(*) FROM views.versions")  # opens the snapshot
                return await compare(reading, self.view, live.version, self.version.version, live.tables)

    async def switch(self) -> Version:
        """Let readers see this version; returns what was live before.

        Steps back and tries again while a long query holds the views.
        """
        async with driver(self._engine) as connection:
            for _ in range(_SWITCH_TRIES):
                await self.catch_up(connection)
                try:
                    async with self.level(connection) as live:
                        await versions.switch(connection, self.view, self.version, old_tables=live.tables)
                except asyncpg.LockNotAvailableError:
                    await asyncio.sleep(_SWITCH_PAUSE_S)
                else:
                    return live
        raise TimeoutError(f"view {self.view.name}: long queries hold it; the switch did not get its moment")

    async def _targets(self, connection: Connection) -> dict[Source, int]:
        return await versions.positions(connection, await live_version(connection, self.view.name))

    def _left(self, targets: Mapping[Source, int]) -> int:
        marks = self._projector.marks
        return sum(max(0, to - marks[source].position) for source, to in targets.items() if source in marks)

    async def _run_to(self, targets: Mapping[Source, int]) -> None:
        total = sum(targets.values())
        async for _ in self._projector.run_to(targets):
            self._progress(sum(m.position for m in self._projector.marks.values()), total)


@asynccontextmanager
async def building(
    settings: Settings, view: View, progress: Progress, *, kept: Version | None = None, scratch: bool = False
) -> AsyncIterator[Builder]:
    """A new version of ``view`` (or one that was kept), dropped at the end unless it became the live one."""
    settle_heap()
    async with AsyncExitStack() as stack:
        engine = async_engine(settings, f"rebuild-{view.name}", pool_size=_CONNECTIONS, session=SESSION)
        stack.push_async_callback(engine.dispose)
        connection = await stack.enter_async_context(driver(engine))
        await stack.enter_async_context(versions.alone(connection, view.name))
        for old in await versions_of(connection, view.name):
            if old.state in ("building", "scratch"):
                log.info("what an interrupted build left is dropped", view=view.name, version=old.version)
                await versions.drop(connection, old)
        if kept is None:
            version = await versions.create(connection, view, "scratch" if scratch else "building")
        else:
            version = kept
            await connection.execute(
                "UPDATE views.marks SET retired = false WHERE view = $1 AND version = $2",
                view.name,
                kept.version,
            )
        builder = Builder(settings, engine, view, version, progress)
        try:
            await builder.open()
            yield builder
        except BaseException:
            await builder.close(broken=True)
            await _clean(connection, version)
            raise
        await builder.close(broken=False)
        await _clean(connection, version)


async def _clean(connection: Connection, version: Version) -> None:
    """Drop a version that was built and not switched to; one that was kept before is kept."""
    for now in await versions_of(connection, version.view):
        if now.version == version.version and now.state in ("building", "scratch"):
            await versions.drop(connection, now)
        elif now.version == version.version and now.state == "kept":
            await connection.execute(
                "UPDATE views.marks SET retired = true WHERE view = $1 AND version = $2",
                version.view,
                version.version,
            )


async def rebuild(
    settings: Settings,
    name: str,
    *,
    keep: bool = True,
    accept_differences: bool = False,
    compare_first: bool = True,
    progress: Progress = _silent,
    view: View | None = None,
) -> Comparison:
    """Build view ``name`` anew from the beginning of its topics and switch to it.

    Raises :class:`DifferentError` and changes nothing when the new version says something else than the live
    one, unless ``accept_differences`` says that the live one is known to be wrong. With ``keep`` the old version
    stays, for :func:`go_back`. ``compare_first`` is off for a live version whose tables this code can not read.
    """
    async with building(settings, view or newest(name), progress) as builder:
        comparison = await builder.compare() if compare_first else Comparison()
        if not comparison.equal and not accept_differences:
            raise DifferentError(name, comparison)
        before = await builder.switch()
        await _after_switch(settings, before, keep=keep, digest=comparison.digest)
    return comparison


async def readable(settings: Settings, name: str) -> bool:
    """Whether the live tables are of a layout that this release knows, so that they can be compared."""
    return writer_of(await _live(settings, name)) is not None


async def _live(settings: Settings, name: str) -> Version:
    engine = async_engine(settings, "live-version", pool_size=1)
    try:
        async with driver(engine) as connection:
            return await live_version(connection, name)
    finally:
        await engine.dispose()


async def verify(settings: Settings, name: str, *, progress: Progress = _silent) -> Comparison:
    """Find drift: replay the view into scratch tables with the live version's code and compare row by row."""
    live = await _live(settings, name)
    async with building(settings, view_of(live), progress, scratch=True) as builder:
        return await builder.compare()


async def go_back(settings: Settings, name: str, *, progress: Progress = _silent) -> Version:
    """Switch to the newest version that was kept, after it has caught up; what was live is kept."""
    engine = async_engine(settings, "go-back", pool_size=1)
    try:
        async with driver(engine) as connection:
            kept = [v for v in await versions_of(connection, name) if v.state == "kept"]
    finally:
        await engine.dispose()
    if not kept:
        raise NothingKeptError(f"view {name} has no earlier version that was kept")
    async with building(settings, view_of(kept[-1]), progress, kept=kept[-1]) as builder:
        await builder.switch()
    return kept[-1]


async def _after_switch(settings: Settings, before: Version, *, keep: bool, digest: str) -> None:
    """Drop versions that nobody needs any more."""
    engine = async_engine(settings, "rebuild-clean", pool_size=1)
    try:
        async with driver(engine) as connection:
            await connection.execute(
                "UPDATE views.versions SET digest = $2 WHERE view = $1 AND state = 'live'",
                before.view,
                digest,
            )
            for version in await versions_of(connection, before.view):
                if version.state == "kept" and not (keep and version.version == before.version):
                    await versions.drop(connection, version)
    except asyncpg.LockNotAvailableError:
        log.warning("a query still reads the old version: the next rebuild drops it", view=before.view)
    finally:
        await engine.dispose()
