"""Keeps the live version of a view up to date, for as long as the process runs.

Two runners of the same view are safe: marks move by compare-and-swap, and the one that loses stands by until the
marks have not moved for a while although events wait. A stand-by takes over from a runner that was stopped in the
middle of a transaction by ending its backend.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import asyncpg
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from nexafi.database import driver
from nexafi.role import RoleContext
from nexafi.telemetry import gauge
from projections.marks import Connection, MarkLostError, Version, live_version, lock_key
from projections.projector import Projector
from projections.registry import writer_of
from projections.upgrading import upgrade

log = structlog.get_logger(__name__)
_BEHIND: Final = gauge(
    "nexafi.projection.behind", "Records between a PostgreSQL view and the ends of its topics."
)

#: Marks of a view that do not move for so long although this runner sees events: the other runner is gone.
TAKEOVER_S: Final = 10.0
_RETRY_FIRST_S: Final = 0.25
_RETRY_MAX_S: Final = 10.0
_SHOW_EVERY_S: Final = 1.0
_STANDBY_POLL_S: Final = 0.5
#: A backend that waits for its client inside a transaction for so long belongs to a process that stands still.
_STUCK_S: Final = 15


class Keeper:
    """One view in this process. ``name`` is the prefix of its conditions in health."""

    def __init__(
        self, ctx: RoleContext, engine: AsyncEngine, view: str, *, takeover_s: float = TAKEOVER_S
    ) -> None:
        self._ctx = ctx
        self._engine = engine
        self._view = view
        self._takeover_s = takeover_s
        self.name = f"projection/{view}"
        self._shown_at = 0.0
        self._version = 0

    async def run(self) -> None:
        """Project until ``ctx.stop`` is set; after any error begin anew from what the database says."""
        health = self._ctx.health
        health.expect(self.name)
        upgrading = asyncio.create_task(
            upgrade(self._ctx, self._engine, self._view), name=f"upgrade {self._view}"
        )
        try:
            await self._keep()
        finally:
            upgrading.cancel()
            await asyncio.gather(upgrading, return_exceptions=True)

    async def _keep(self) -> None:
        health, stop = self._ctx.health, self._ctx.stop
        delay_s = _RETRY_FIRST_S
        while not stop.is_set():
            began = time.monotonic()
            try:
                await self._session()
            except MarkLostError as error:
                log.warning("another runner has moved on", view=self._view, why=str(error)[:300])
                await self._stand_by()
            except Exception as error:
                health.bad(self.name, f"{type(error).__name__}: {str(error)[:300]}")
                log.exception("projection begins anew", view=self._view)
                if isinstance(error, asyncpg.LockNotAvailableError):
                    await self._end_stuck_runner()
                if time.monotonic() - began > _RETRY_MAX_S:
                    delay_s = _RETRY_FIRST_S
                await self._pause(delay_s)
                delay_s = min(delay_s * 2, _RETRY_MAX_S)

    async def _session(self) -> None:
        """From opening to the first error, or until stopped."""
        version = await self._live()
        self._version = version.version
        view = writer_of(version)
        if view is None:
            await self._wait_for_upgrade()
            return
        projector = Projector(
            self._ctx.settings,
            view,
            version.version,
            self._engine,
            self._ctx.health,
            name=self.name,
        )
        try:
            await projector.open()
            self._ctx.health.ok(self.name)
            while not self._ctx.stop.is_set():
                await projector.step()
                self._show(projector, version)
        except BaseException:
            await projector.abandon()
            raise
        await projector.close()

    def _show(self, projector: Projector, version: Version) -> None:
        now = time.monotonic()
        if now - self._shown_at < _SHOW_EVERY_S:
            return
        self._shown_at = now
        behind = sum(projector.stream.lag().values())
        _BEHIND.set(behind, {"view": self._view})
        self._ctx.health.details[self.name] = {
            "version": version.version,
            "records_behind": behind,
            "positions": {f"{s}/{n}": mark.position for (s, n), mark in projector.committed.items()},
        }

    async def _wait_for_upgrade(self) -> None:
        """The live tables are not of this release: they stand still until they are replaced."""
        why = "its tables are of another release; it is being made anew"
        self._ctx.health.bad(self.name, why)
        log.warning("view stands still", view=self._view, why=why)
        while not self._ctx.stop.is_set() and (await self._live()).version == self._version:
            await self._pause(_STANDBY_POLL_S)

    async def _live(self) -> Version:
        async with driver(self._engine) as connection:
            return await live_version(connection, self._view)

    # ------------------------------------------------------------------ the other runner

    async def _stand_by(self) -> None:
        """Wait until the live version changes, or its marks stand still for ``takeover_s``."""
        self._ctx.health.ok(self.name)
        self._ctx.health.details[self.name] = "standing by: another runner keeps this view"
        before: tuple[Any, ...] = ()
        still_since = time.monotonic()
        while not self._ctx.stop.is_set():
            try:
                async with driver(self._engine) as connection:
                    now = await _standing(connection, self._view)
            except (OSError, asyncpg.PostgresError, SQLAlchemyError) as error:
                log.warning("standing by without a database", view=self._view, error=str(error)[:300])
                return
            if now[0] != self._version:
                return  # a switch: the new version wants a runner
            if now != before:
                before, still_since = now, time.monotonic()
            elif time.monotonic() - still_since > self._takeover_s:
                log.warning("taking over", view=self._view)
                return
            await self._pause(_STANDBY_POLL_S)

    async def _end_stuck_runner(self) -> None:
        """End the backend that holds this version's lock while its client says nothing."""
        try:
            version = await self._live()
            async with driver(self._engine) as connection:
                ended = await end_stuck(connection, lock_key(self._view, version.version), _STUCK_S)
        except (OSError, LookupError, asyncpg.PostgresError, SQLAlchemyError) as error:
            log.warning("could not look for a stuck runner", view=self._view, error=str(error)[:300])
            return
        if ended:
            log.error("ended the session of a runner that stands still", view=self._view, pids=ended)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._ctx.stop.wait()
        except TimeoutError:
            return


async def _standing(connection: Connection, view: str) -> tuple[Any, ...]:
    """The live version and its marks' sum, to see movement."""
    row = await connection.fetchrow(
        "SELECT max(version), sum(position), max(updated_at) FROM views.live_marks WHERE view = $1", view
    )
    return tuple(row) if row is not None else ()


async def end_stuck(connection: Connection, lock: str, after_s: int) -> list[int]:
    """End backends that hold advisory lock ``lock`` and have waited for their client for ``after_s``; their pids.

    A process that was stopped (SIGSTOP, a frozen virtual machine) in the middle of a COPY keeps its locks: no
    time-out of PostgreSQL covers a COPY that waits for its client.
    """
    rows = await connection.fetch(
        """SELECT l.pid, pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid),
                  LATERAL (SELECT hashtextextended($1, 0) AS k) key
           WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
             AND l.classid::bigint = (key.k >> 32) & 4294967295 AND l.objid::bigint = key.k & 4294967295
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND a.wait_event = 'ClientRead' AND a.query_start < now() - make_interval(secs => $2)""",
        lock,
        after_s,
    )
    return [r["pid"] for r in rows]
