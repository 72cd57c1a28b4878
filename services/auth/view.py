"""What the auth service knows, ready to be asked: clients and keys in memory, built from its own history.

Credentials of machines are few (thousands) and are asked for by every request that the gateway has not
seen for some seconds, so they stay in memory; the store is the truth and is read again at every start.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from events.store.reached import refuse_unreached
from nexafi.role import Health
from schemas.auth.events import EVENTS, ApiKeyIssued, ApiKeyRevoked, ClientDisabled, ClientRegistered
from schemas.common.base import Event

log = structlog.get_logger(__name__)

#: How often the store is asked for what is new; with the gateway's cache it bounds how late a revocation is.
POLL_S: Final = 0.2
#: A view older than this is not asked any more: revocation must not lie.
MAX_STALENESS_S: Final = 1.0
_CHUNK: Final = 5000


@dataclass(slots=True)
class Machine:
    """A client or an API key. Times in microseconds since the epoch."""

    id: str
    kind: str
    tenant: str
    name: str
    hash: str
    scopes: list[str]
    created_at: int
    prefix: str = ""
    expires_at: int | None = None
    ended_at: int | None = None


@dataclass(slots=True)
class CredentialView:
    """All credentials, the positions up to which they are known, and who waits for more."""

    machines: dict[str, Machine] = field(default_factory=dict)
    by_hash: dict[str, Machine] = field(default_factory=dict)
    ids: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    def apply(self, event: Event, *, tenant: str, time_us: int) -> None:
        """Take in one event."""
        match event:
            case ClientRegistered():
                self._add(
                    Machine(
                        event.client_id,
                        "client",
                        tenant,
                        event.name,
                        event.secret_hash,
                        event.scopes,
                        time_us,
                    )
                )
            case ApiKeyIssued():
                self._add(
                    Machine(
                        event.key_id,
                        "key",
                        tenant,
                        event.name,
                        event.key_hash,
                        event.scopes,
                        time_us,
                        event.prefix,
                        event.expires_at,
                    )
                )
            case ClientDisabled():
                self.machines[event.client_id].ended_at = time_us
            case ApiKeyRevoked():
                self.machines[event.key_id].ended_at = time_us

    def _add(self, machine: Machine) -> None:
        self.machines[machine.id] = machine
        if machine.kind == "key":
            self.by_hash[machine.hash] = machine
        insort(self.ids.setdefault((machine.tenant, machine.kind), []), machine.id)

    def of_tenant(self, tenant: str, kind: str, identifier: str) -> Machine | None:
        """A credential of this tenant; another tenant's is as absent as one that never was."""
        machine = self.machines.get(identifier)
        return machine if machine and machine.tenant == tenant and machine.kind == kind else None

    def page(self, tenant: str, kind: str, after: str, limit: int) -> list[Machine]:
        """At most ``limit`` credentials in the order of their ids, behind ``after``."""
        ids = self.ids.get((tenant, kind), [])
        start = bisect_right(ids, after)
        return [self.machines[i] for i in ids[start : start + limit]]

    async def reached(self, wanted: dict[int, int], timeout_s: float) -> bool:
        """Wait until every shard's position is at least the one wanted; whether it is."""

        def there() -> bool:
            return all(self.positions.get(shard, 0) >= position for shard, position in wanted.items())

        if there():
            return True
        try:
            async with asyncio.timeout(timeout_s), self.moved:
                await self.moved.wait_for(there)
        except TimeoutError:
            return False
        return True


class Follower:
    """Keeps a :class:`CredentialView` up to the store, position by position."""

    def __init__(self, engine: AsyncEngine, view: CredentialView, health: Health, shards: int) -> None:
        self._engine = engine
        self._view = view
        self._health = health
        self._shards = shards
        self._fresh_at = float("-inf")
        self._reading = asyncio.Lock()
        self._next: asyncio.Task[bool] | None = None

    @property
    def age_s(self) -> float:
        """Seconds since the view last equalled the store."""
        return asyncio.get_running_loop().time() - self._fresh_at

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until stopped. While the database is away the view ages, and says so in health."""
        self._health.expect("auth-view")
        while not stop.is_set():
            try:
                await self.catch_up()
                self._health.ok("auth-view")
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                self._health.bad("auth-view", f"the store can not be read: {type(error).__name__}")
                log.warning("auth view can not read the store", error=type(error).__name__)
            try:
                await asyncio.wait_for(stop.wait(), POLL_S)
            except TimeoutError:
                continue

    async def refresh(self) -> bool:
        """Whether everything that was stored before this call is in the view now; not when the store can not be read.

        Who asks while a reading is under way shares the one after it, so that a flood of credentials that never were
        costs the store one query after another, whatever its size.
        """
        task = self._next
        if task is None:
            task = self._next = asyncio.create_task(self._after_the_one_under_way(), name="auth-view-refresh")
        return await asyncio.shield(task)

    async def _after_the_one_under_way(self) -> bool:
        async with self._reading:
            self._next = None  # who comes from here on may have been stored behind our snapshot
            try:
                await self._read()
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                log.warning("auth view can not read the store", error=type(error).__name__)
                return False
        return True

    async def refuse_unreached(self, wanted: Mapping[int, int]) -> None:
        """Raise the problem of a consistency token that names what no shard has (shard -> position)."""
        await refuse_unreached(self._engine, {f"auth/{s}": p for s, p in wanted.items() if s < self._shards})

    async def catch_up(self) -> None:
        """Read everything that is new."""
        async with self._reading:
            await self._read()

    async def _read(self) -> None:
        started = asyncio.get_running_loop().time()
        query = text(
            "SELECT position, topic, metadata, state FROM auth.events"
            " WHERE shard = :shard AND position > :after ORDER BY position LIMIT :chunk"
        )
        async with self._engine.connect() as connection:
            for shard in range(self._shards):
                while True:
                    after = self._view.positions.get(shard, 0)
                    result = await connection.execute(
                        query, {"shard": shard, "after": after, "chunk": _CHUNK}
                    )
                    rows = result.fetchall()
                    if rows:
                        await self._take(shard, rows)
                    if len(rows) < _CHUNK:
                        break
        self._fresh_at = started

    async def _take(self, shard: int, rows: Any) -> None:
        for position, topic, metadata, state in rows:
            model = EVENTS.get(topic)
            if model is not None:  # the engine's own events (refusals to sagas) concern nobody here
                meta = orjson.loads(metadata)
                self._view.apply(model.from_json(state), tenant=meta["tenant"], time_us=meta["time"])
            self._view.positions[shard] = position
        async with self._view.moved:
            self._view.moved.notify_all()
