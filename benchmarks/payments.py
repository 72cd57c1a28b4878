"""Whole payments: initiated over HTTP, scored, screened against the full list, held, posted, settled.

The end is seen from outside, by a plain consumer of ``payments.events``. Every party has a name of its own that was
never seen before, so the screening's memory of names helps nothing; names that the list would stop are left out
beforehand, because a payment that waits for an officer has no end.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks import ordinary
from benchmarks.edge import Edge, close, expected
from benchmarks.http_client import Connection, post
from benchmarks.openloop import OpenLoop, open_loop
from events.topics import events_topic
from nexafi.settings import Settings
from services.compliance.lists import ofac
from services.compliance.matching.screener import ListScreener

SETTLED: Final = "payments.payment-settled.v1"
_ENDS: Final = {
    SETTLED.encode(): "settled",
    b"payments.payment-failed.v1": "not settled",
}
_CONNECTIONS: Final = 128
_END_TIMEOUT_S: Final = 120.0


@dataclass
class PaymentRun:
    """Payments by id: when they were due or sent, and when and how they ended (``time.monotonic`` seconds)."""

    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    how: Counter[str] = field(default_factory=Counter)

    def latencies(self) -> list[float]:
        """Seconds from due to settled, of those that ended."""
        return [self.ended[p] - t for p, t in self.began.items() if p in self.ended]

    def missing(self) -> int:
        """Payments whose end was not seen."""
        return len(self.began.keys() - self.ended.keys())

    def per_s(self) -> float:
        """From the first request to the last end."""
        return len(self.latencies()) / (max(self.ended.values()) - min(self.began.values()))


def clean_names(count: int, seed: int) -> tuple[list[str], int]:
    """So many different ordinary names without a hit, and the number of entries that they were screened against."""
    source = ofac.load()
    screener = ListScreener(source)
    groups = ordinary.groups()
    draw = random.Random(seed)
    found: dict[str, None] = {}
    streams = {group: ordinary.names(group, count * 4, seed) for group in groups}
    while len(found) < count:
        name = f"{next(streams[draw.choice(groups)])} {_initial(draw)}"
        if name not in found and not screener.screen(name, None):
            found[name] = None
    return list(found), len(source.entries)


def _initial(draw: random.Random) -> str:
    """Makes the same two words another name."""
    return draw.choice("ABCDEFGHIJKLMNOPRSTUVW") + draw.choice("aeiou") + draw.choice("lmnrst")


class Payments:
    """Sends payments between the accounts of an :class:`Edge`."""

    def __init__(self, edge: Edge, settings: Settings, names: list[str]) -> None:
        self.edge = edge
        self.settings = settings
        self._names = iter(names)
        self._sent = 0

    def requests(self) -> Iterator[bytes]:
        """Requests without end: payer and payee differ from one to the next, and so do their names."""
        accounts = self.edge.accounts
        while True:
            n = self._sent
            self._sent += 1
            body = {
                "ledger_id": self.edge.ledger,
                "payer": {"account_id": accounts[n % len(accounts)], "name": next(self._names)},
                "payee": {"account_id": accounts[(n * 7 + 1) % len(accounts)], "name": next(self._names)},
                "amount": 1_000 + n % 997,
                "currency": "EUR",
            }
            yield post("/v1/payments", self.edge.token, self.edge.key(), orjson.dumps(body))

    async def at_once(self, count: int) -> PaymentRun:
        """Closed loop of :data:`_CONNECTIONS` clients until ``count`` are sent; then wait for all ends."""
        run = PaymentRun()
        requests = self.requests()
        async with _Ends(self.settings, run) as ends:
            connections = await self.edge.connect(_CONNECTIONS)
            left = iter(range(count))

            async def client(connection: Connection) -> None:
                for _ in left:
                    await self._pay(connection, next(requests), time.monotonic(), run)

            await asyncio.gather(*(client(c) for c in connections))
            close(connections)
            await ends.all_ended()
        return run

    async def at_rate(self, rate: float, seconds: float) -> tuple[PaymentRun, OpenLoop]:
        """Open loop; a payment's latency counts from the moment at which it was due."""
        run = PaymentRun()
        requests = self.requests()
        async with _Ends(self.settings, run) as ends:
            connections = await self.edge.connect(_CONNECTIONS)
            free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
            for connection in connections:
                free.put_nowait(connection)

            async def send(due: float) -> None:
                connection = await free.get()
                try:
                    await self._pay(connection, next(requests), due, run)
                finally:
                    free.put_nowait(connection)

            loaded = await open_loop(rate, seconds, send)
            close(connections)
            await ends.all_ended()
        return run, loaded

    async def _pay(self, connection: Connection, request: bytes, due: float, run: PaymentRun) -> None:
        answer: dict[str, Any] = orjson.loads(expected(await connection.request(request), 201))
        run.began[answer["result"]["payment_id"]] = due


class _Ends:
    """Fills a run with the ends that arrive on ``payments.events`` while it is open."""

    def __init__(self, settings: Settings, run: PaymentRun) -> None:
        self._run = run
        self._consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka, fetch_max_wait_ms=50
        )
        self._partitions = [
            TopicPartition(events_topic("payments"), n) for n in range(settings.shard_count("payments"))
        ]
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> _Ends:
        await self._consumer.start()
        self._consumer.assign(self._partitions)
        for partition, offset in (await self._consumer.end_offsets(self._partitions)).items():
            self._consumer.seek(partition, offset)
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()

    async def all_ended(self) -> None:
        """Wait, bounded, until every payment that began has ended; who is missing is the caller's to judge."""
        deadline = time.monotonic() + _END_TIMEOUT_S
        while self._run.missing() and time.monotonic() < deadline:  # noqa: ASYNC110 -- ends come one by one
            await asyncio.sleep(0.05)

    async def _watch(self) -> None:
        async for record in self._consumer:
            kind = subject = b""
            for name, value in record.headers:
                if name == "ce_type":
                    kind = value
                elif name == "ce_subject":
                    subject = value
            how = _ENDS.get(kind)
            if how is not None:
                self._run.ended.setdefault(subject.decode(), time.monotonic())
                self._run.how[how] += 1
