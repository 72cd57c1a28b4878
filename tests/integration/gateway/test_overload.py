"""R25 and fairness: what is too much is refused at once, what is taken is answered in time, and nobody starves another."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import orjson
import psutil
import pytest

from benchmarks.http_client import Connection, post
from nexafi.ids import shard_of
from tests.integration.gateway.test_keys import Book
from tests.integration.gateway.world import World, transfer
from tests.kit.api import Answer, Caller, callers, fresh_key
from tests.kit.gateway import OwnGateway, own_gateway
from tests.kit.soak import Figure, Printed, figures

#: Callers at once that a machine of two cores is busy with, how much more is asked then, and by how many callers: more
#: than a shard has places for one tenant, so that they ask again however slow the answers become.
USUAL: Final = 64
TIMES: Final = 5
CROWD: Final = 2_000
#: Pairs of entries in a transaction of R25: work enough that two cores can be asked for five times what they can do, by
#: a client on the same two.
PAIRS: Final = 60
#: Of the promise, and of a run in the suite, where others use the machine.
P99_S: Final = {True: 2.0, False: 20.0}
MEMORY: Final = {True: 1.10, False: 1.5}
DRAINED_S: Final = 120.0
_MB: Final = 1 << 20


@dataclass
class Load:
    """What callers heard: latencies of what was accepted, in seconds, and how many were refused, by type."""

    accepted: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    others: list[tuple[int, bytes]] = field(default_factory=list)
    posted: set[str] = field(default_factory=set)
    sent: int = 0

    def heard(self, status: int, body: bytes, took_s: float) -> None:
        """One answer."""
        if status == 201:
            self.accepted.append(took_s)
            self.posted.add(orjson.loads(body)["result"]["transaction_id"])
        elif status in (429, 503):
            kind = orjson.loads(body)["type"].rpartition("/")[2]
            self.refused[kind] = self.refused.get(kind, 0) + 1
        else:
            self.others.append((status, body))


class Crowd:
    """Callers of one tenant that each send at their own pace, whatever becomes of the others."""

    def __init__(self, gateway: OwnGateway, book: Book, pairs: int = 1) -> None:
        self.port = int(gateway.base.rpartition(":")[2])
        self.book = book
        self.body = orjson.dumps({"entries": transfer(*book.accounts, 1) * pairs})
        self.numbers = itertools.count()
        self.name = fresh_key()

    async def load(self, clients: int, seconds: float, rate: float = 0.0) -> Load:
        """Each of ``clients`` sends when it has its answer; with a ``rate`` (a second) all together no faster than that."""
        found = Load()
        ends = time.monotonic() + seconds
        connections = [await Connection.open("127.0.0.1", self.port) for _ in range(clients)]
        due = self._due(rate)

        async def caller(connection: Connection) -> None:
            while time.monotonic() < ends:
                if rate:
                    await asyncio.sleep(max(0.0, next(due) - time.monotonic()))
                key = f"{self.name}-{next(self.numbers)}"
                path = f"{self.book.path}/transactions"
                found.sent += 1
                begun = time.monotonic()
                request = post(path, self.book.caller.token, key, self.body, prefer="wait=30")
                status, body = await connection.request(request)
                found.heard(status, body, time.monotonic() - begun)

        try:
            await asyncio.gather(*(caller(c) for c in connections))
        finally:
            for connection in connections:
                connection.close()
        return found

    @staticmethod
    def _due(rate: float) -> Iterator[float]:
        start = time.monotonic()
        return (start + n / rate for n in itertools.count()) if rate else iter(())


@asynccontextmanager
async def peak_memory(*processes: psutil.Process) -> AsyncIterator[list[int]]:
    """The most that the processes had resident together while the block ran, in bytes; the first and only item."""
    peak = [0]

    async def watch() -> None:
        while True:
            peak[0] = max(peak[0], sum(p.memory_info().rss for p in processes))
            await asyncio.sleep(0.1)

    task = asyncio.create_task(watch())
    try:
        yield peak
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def refusal_of(caller: Caller, book: Book) -> Answer | None:
    """What somebody is told while it is too much; ``None`` when he never was."""
    for _ in range(200):
        answer = await caller.post(
            f"{book.path}/transactions", {"entries": transfer(*book.accounts, 1)}, tries=1
        )
        if answer.status in (429, 503):
            return answer
    return None


@figures("R25")
async def test_an_overload_is_bounded(world: World, figure: Figure, printed: Printed) -> None:
    """Given what the platform can do; when five times as much is asked; then memory, latency and backlog stay bounded."""
    seconds = figure["seconds"]
    promised = seconds >= 60
    with own_gateway(world.platform) as gateway:
        async with aiohttp.ClientSession() as http:
            book = await Book.make(world.ours.caller(http, gateway.base))
            crowd = Crowd(gateway, book, PAIRS)
            processes = psutil.Process(gateway.pid), world.platform.process("ledger")
            await crowd.load(CROWD, 2.0)  # as many connections as will be there then
            await book.moved()  # and nothing is left of it
            async with peak_memory(*processes) as before:
                usual = await crowd.load(USUAL, 3.0)
            assert usual.others == []
            rate = TIMES * len(usual.accepted) / 3.0
            async with peak_memory(*processes) as during:
                over = await crowd.load(CROWD, seconds, rate)
            ended = time.monotonic()
            moved = await book.moved()  # a command behind all others, seen in the view
            drained_s = time.monotonic() - ended
    assert over.others == []
    assert set(over.refused) <= {"too-many-requests", "overloaded"}
    assert over.accepted, "it did nothing at all"
    p99 = sorted(over.accepted)[int(len(over.accepted) * 0.99)]
    assert moved[0] == moved[1]
    assert moved[1] >= PAIRS * (len(over.posted) + len(usual.posted)), "an acknowledged transfer is not there"
    assert drained_s <= DRAINED_S
    assert p99 <= P99_S[promised], p99
    assert during[0] <= before[0] * MEMORY[promised], (before, during)
    printed(
        "R25",
        seconds=seconds,
        usual_per_s=round(len(usual.accepted) / 3.0),
        asked_per_s=round(over.sent / seconds),
        accepted_per_s=round(len(over.accepted) / seconds),
        refused=sum(over.refused.values()),
        p99_ms=round(p99 * 1000),
        memory_before_mb=before[0] // _MB,
        memory_during_mb=during[0] // _MB,
        drained_s=round(drained_s, 1),
    )


async def test_one_tenant_that_floods_a_shard_does_not_starve_its_neighbour(
    world: World, printed: Printed
) -> None:
    """Two tenants on one shard with 64 places: one keeps 200 callers busy, the other has 8 and is never refused."""
    async with callers(world.platform, "flood", "calm") as (flooding, calm):
        with own_gateway(world.platform, NEXAFI_MAX_COMMANDS_PER_SHARD="64") as gateway:
            flooding.base = calm.base = gateway.base
            theirs = await Book.make(flooding)
            ours = await beside(calm, theirs)
            flood = asyncio.create_task(Crowd(gateway, theirs).load(200, 6.0))
            told = await refusal_of(flooding, theirs)
            quiet = await Crowd(gateway, ours).load(8, 3.0)
            over = await flood
    assert told is not None, "it was not too much, so nothing was shown"
    assert told.status == 429
    assert told.problem == "too-many-requests"
    assert int(told.headers["retry-after"]) >= 1
    assert over.refused.get("too-many-requests", 0) > 0
    assert over.others == quiet.others == []
    assert quiet.refused == {}, "a tenant with few commands was refused because of another's many"
    assert len(quiet.accepted) == quiet.sent > 0
    printed(
        "fairness",
        flood_accepted=len(over.accepted),
        flood_refused=sum(over.refused.values()),
        calm_accepted=len(quiet.accepted),
        calm_refused=0,
    )


async def beside(caller: Caller, book: Book) -> Book:
    """A ledger of this caller on the shard of that book."""
    shard = shard_of(book.path.rpartition("/")[2])
    for _ in range(200):
        mine = await Book.make(caller)
        if shard_of(mine.path.rpartition("/")[2]) == shard:
            return mine
    pytest.fail("no ledger came to that shard")
