"""Views on real servers: own database, own topics, runners in this process or in processes that can be killed.

Topics are shared by whoever uses the servers, so each test gives the services names of its own; the views are the
real ones, fed by the renamed services.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from events.topics import ensure_topics
from nexafi.database import async_engine
from nexafi.role import Health, RoleContext
from nexafi.settings import Settings
from projections import registry
from projections.digests import text_of, view_digest
from projections.migrations import migrate
from projections.projector import SESSION, Projector
from projections.runner import Keeper
from projections.search.documents import Index
from projections.search.mirror import Mirror
from projections.view import View
from tests.kit.history import History, publish

ROOT = Path(__file__).parents[2]
#: Environment variable by which a child process learns the names of the services.
RENAMED = "NEXAFI_TEST_SERVICES"


def rename(services: Mapping[str, str]) -> None:
    """Let every view of this process be fed by services of other names."""
    for name, codes in registry.VIEWS.items():
        registry.VIEWS[name] = tuple(renamed(view, services) for view in codes)


def renamed(view: View, services: Mapping[str, str]) -> View:
    """``view``, fed by services of other names."""
    return replace(view, services=tuple(services.get(s, s) for s in view.services))


@dataclass
class Views:
    """One test's database and topics. ``service("ledger")`` is the name under which the test publishes."""

    settings: Settings
    services: dict[str, str]
    health: Health = field(default_factory=Health)
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    async def create(
        cls, stack: Settings, database_url: str, services: Sequence[str] = ("ledger",), shards: int = 2
    ) -> Views:
        """Make topics and schemas."""
        known = ("ledger", "payments", "compliance", "ai", "payment-saga")
        names = {s: f"{s[:2]}{secrets.token_hex(4)}" if s in services else s for s in known}
        settings = stack.model_copy(
            update={
                "database_url": database_url,
                "shards": dict.fromkeys(names.values(), shards),
                "search_prefix": f"t{secrets.token_hex(4)}",
            }
        )
        own = tuple(names[s] for s in services)
        await ensure_topics(settings, own)
        views = cls(settings, names)
        await asyncio.to_thread(migrate, settings)
        return views

    def service(self, name: str) -> str:
        """The topic's service name."""
        return self.services[name]

    def renamed(self, view: View) -> View:
        """``view``, fed by this test's services."""
        return renamed(view, self.services)

    async def publish(self, *histories: History, after: int = 0) -> None:
        """Publish the events of ``histories`` above position ``after``."""
        for history in histories:
            await publish(
                self.settings, history.service, [e for e in history.events if e.envelope.position > after]
            )

    # ------------------------------------------------------------------ running

    def view(self, name: str) -> View:
        """The newest code of a view, as this process runs it."""
        return registry.newest(name)

    @asynccontextmanager
    async def projector(
        self, name: str = "ledger", version: int = 1, view: View | None = None
    ) -> AsyncIterator[Projector]:
        """An open projector, stepped by the test."""
        engine = async_engine(self.settings, "test", pool_size=4, session=SESSION)
        projector = Projector(
            self.settings, view or self.view(name), version, engine, self.health, name=f"projection/{name}"
        )
        try:
            await projector.open()
            yield projector
        finally:
            await projector.abandon()
            await engine.dispose()

    @asynccontextmanager
    async def running(self, *names: str, takeover_s: float = 3.0) -> AsyncIterator[RoleContext]:
        """Runners of these views in this process, as tasks."""
        ctx = RoleContext(self.settings, asyncio.Event(), self.health)
        engine = async_engine(self.settings, "test", pool_size=4 * len(names), session=SESSION)
        tasks = [asyncio.create_task(Keeper(ctx, engine, n, takeover_s=takeover_s).run()) for n in names]
        try:
            yield ctx
        finally:
            ctx.stop.set()
            _, hanging = await asyncio.wait(tasks, timeout=30)
            for task in hanging:  # e.g. a topic that is not there: the role's process would be ended as well
                task.cancel()
            await asyncio.gather(*tasks)
            await engine.dispose()

    @asynccontextmanager
    async def mirroring(self) -> AsyncIterator[RoleContext]:
        """The search mirror in this process, as a task."""
        ctx = RoleContext(self.settings, asyncio.Event(), self.health)
        task = asyncio.create_task(Mirror(ctx).run())
        try:
            yield ctx
        finally:
            ctx.stop.set()
            await task

    async def mirrored(self, index: Index, *histories: History, timeout_s: float = 60.0) -> None:
        """Wait until all of these histories can be found."""
        await self.reached(index.of_view, *histories, timeout_s=timeout_s)
        await self.reached(index.view, *histories, timeout_s=timeout_s)

    def spawn(self, role: str = "run_postgres", *views: str) -> subprocess.Popen[bytes]:
        """A process of its own that runs a role of the projections, for these views only."""
        env = dict(os.environ) | {
            "NEXAFI_DATABASE_URL": self.settings.database,
            "NEXAFI_KAFKA_BOOTSTRAP": self.settings.kafka,
            "NEXAFI_ELASTICSEARCH_URL": self.settings.elasticsearch,
            "NEXAFI_SHARDS": orjson.dumps(self.settings.shards).decode(),
            "NEXAFI_SEARCH_PREFIX": self.settings.search_prefix,
            RENAMED: orjson.dumps(self.services).decode(),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.view_process", role, *(views or ("ledger",))],
            cwd=ROOT,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End processes that still run."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        with httpx.Client(base_url=self.settings.elasticsearch) as client:
            for name in client.get(f"/{self.settings.search_prefix}-*").json():
                client.delete(f"/{name}")

    # ------------------------------------------------------------------ looking

    def query(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        """Rows of the test's database."""
        with psycopg.connect(self.settings.database) as connection:
            return connection.execute(statement, params).fetchall()

    def execute(self, statement: str, *params: object) -> int:
        """Run a statement; the number of rows."""
        with psycopg.connect(self.settings.database) as connection:
            return connection.execute(statement, params).rowcount

    async def positions(self, view: str) -> dict[int, int]:
        """Live marks by shard."""
        rows = await asyncio.to_thread(
            self.query, "SELECT shard, position FROM views.live_marks WHERE view = %s", view
        )
        return dict(rows)

    async def reached(self, view: str, *histories: History, timeout_s: float = 60.0) -> None:
        """Wait until the live version has taken in these histories."""
        wanted = {(h.service, h.shard): h.position for h in histories}
        query = "SELECT service, shard, position FROM views.live_marks WHERE view = %s"
        deadline = time.monotonic() + timeout_s
        while True:
            rows = await asyncio.to_thread(self.query, query, view)
            have = {(service, shard): position for service, shard, position in rows}
            if all(have.get(source, 0) >= position for source, position in wanted.items()):
                return
            assert time.monotonic() < deadline, (
                f"{view} stands at {have}, not {wanted}: {self.health.problems}"
            )
            await asyncio.sleep(0.02)

    async def digest(self, name: str, version: int | None = None) -> str:
        """Digest of a version (default: the live one)."""
        if version is None:
            rows = self.query("SELECT version FROM views.versions WHERE view = %s AND state = 'live'", name)
            version = rows[0][0]
        engine: AsyncEngine = async_engine(self.settings, "digest", pool_size=1)
        try:
            from nexafi.database import driver

            async with driver(engine) as connection:
                return text_of(await view_digest(connection, self.view(name), version))
        finally:
            await engine.dispose()


async def until(what: Any, timeout_s: float = 30.0) -> None:
    """Wait until ``what()`` is true."""
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


@contextlib.contextmanager
def original_registry() -> Any:
    """Put the views back as they were."""
    before = dict(registry.VIEWS)
    try:
        yield
    finally:
        registry.VIEWS.clear()
        registry.VIEWS.update(before)
