"""Commands that wait in Kafka, to committed, chained and published events: one writer process, nothing else.

The clock runs from the moment at which the writer has taken its shards (just before its first poll) to the moment
at which the last event is on ``ledger.events``, acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.commands import Book, open_books, send, transfers
from benchmarks.cpu import Cpu
from benchmarks.filling import fill_results, settle
from benchmarks.installation import Installation, RoleProcess
from benchmarks.profiler import Profiler
from benchmarks.stored import POSTED, Store
from events.topics import events_topic

SHARDS: Final = 8
ACCOUNTS: Final = 1_000
_POLL_S: Final = 0.05
_TIMEOUT_S: Final = 420.0


@dataclass
class TopicRun:
    """What was measured, and the books for those who go on from here."""

    books: list[Book]
    writer: RoleProcess
    commands: int
    figures: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def migrate(installation: Installation) -> None:
    """Stores, topics and views."""
    installation.command("migrate")


async def measure(
    installation: Installation,
    commands: int,
    results: int,
    *,
    snapshot_every: int,
    profiler: Profiler | None = None,
) -> TopicRun:
    """Prefill, start the writer, and wait for the last event. The writer is left running."""
    settings = installation.settings
    writer = installation.start_role("ledger", name="ledger-writer")
    await asyncio.to_thread(writer.wait_ready)
    books = await open_books(settings, SHARDS, ACCOUNTS, seed=1)
    await asyncio.to_thread(writer.end)
    begun = time.perf_counter()
    await asyncio.to_thread(fill_results, settings, results)
    filled_s = time.perf_counter() - begun
    begun = time.perf_counter()
    await send(settings, transfers(books, commands, seed=2))
    sent_s = time.perf_counter() - begun
    await asyncio.to_thread(settle, settings)
    store = Store(settings)
    before, epochs = store.events(), {shard: head[0] for shard, head in store.heads().items()}
    writer = installation.start_role(
        "ledger", name="ledger-writer-measured", NEXAFI_SNAPSHOT_EVERY=str(snapshot_every)
    )
    run = TopicRun(books, writer, commands)
    try:
        await _watch(installation, run, store, before, epochs, profiler)
        stats = await asyncio.to_thread(writer.details)
        run.facts |= {
            "results stored before": results,
            "filling took s": round(filled_s, 1),
            "producing took s": round(sent_s, 1),
            "writer": stats.get("ledger", {}),
            "posted": store.count(POSTED),
        }
    finally:
        store.close()
    return run


async def _watch(
    installation: Installation,
    run: TopicRun,
    store: Store,
    before: int,
    epochs: dict[int, int],
    profiler: Profiler | None,
) -> None:
    consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(bootstrap_servers=installation.settings.kafka)
    await consumer.start()
    partitions = [TopicPartition(events_topic("ledger"), shard) for shard in range(SHARDS)]
    deadline = time.monotonic() + _TIMEOUT_S
    published = sum((await consumer.end_offsets(partitions)).values())
    begun = committed = 0.0
    cpu: Cpu | None = None
    try:
        while True:
            now = time.perf_counter()
            heads = await asyncio.to_thread(store.heads)
            if not begun and all(epoch > epochs[shard] for shard, (epoch, _, _) in heads.items()):
                begun, cpu = now, Cpu(installation.pids())
                if profiler is not None:
                    profiler.start({run.writer.name: run.writer.pid})
            events = sum(position for _, position, _ in heads.values()) - before
            if events >= run.commands and not committed:
                committed = time.perf_counter()
            ends = sum((await consumer.end_offsets(partitions)).values()) - published
            if ends >= run.commands:
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"{events} committed and {ends} published of {run.commands}")
            await asyncio.sleep(_POLL_S)
    finally:
        await consumer.stop()
    ended = time.perf_counter()
    assert cpu is not None
    run.figures = {
        "published_per_s": run.commands / (ended - begun),
        "committed_per_s": run.commands / (committed - begun),
    }
    run.facts |= {
        "cpu": cpu.shares(),
        "cpu each": cpu.each_us(run.commands),
        "seconds": round(ended - begun, 2),
        "published": ends,
        "committed": events,
    }
