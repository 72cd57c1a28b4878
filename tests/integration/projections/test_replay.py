"""Everything dropped and made again from the events: equal digests in PostgreSQL and Elasticsearch, and nothing sent."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from events.topics import commands_topic, ensure_topics, events_topic
from projections.measuring import projection_rate, rebuild_rate, search_rate
from projections.migrations import migrate
from projections.rebuild import rebuild
from projections.search.documents import ENTRIES, INDICES, PAYMENTS
from projections.search.indices import client_of
from projections.search.rebuild import digest
from projections.search.rebuild import rebuild as rebuild_index
from tests.integration.projections.conftest import Make
from tests.integration.projections.test_payments import payment_story
from tests.kit.history import LedgerHistory
from tests.kit.views import Views


async def digests(views: Views) -> dict[str, str]:
    """Of both views and both indices."""
    found = {name: await views.digest(name) for name in ("ledger", "payments")}
    return found | {index.view: str(await digest(views.settings, index)) for index in INDICES}


async def test_dropped_views_are_equal_after_their_replay(make_views: Make) -> None:
    """All tables, marks and indices are gone; what the events make of nothing has the same digests."""
    views = await make_views("ledger", "payments")
    payments, _ = payment_story(views.service("payments"))
    books = [LedgerHistory.begin(views.service("ledger"), shard, 200) for shard in (0, 1)]
    for book in books:
        book.random_transfers(4_000, random.Random(book.shard))
    await views.publish(payments, *books)
    total = payments.position + sum(b.position for b in books)
    async with views.running("ledger", "payments"), views.mirroring():
        await views.mirrored(PAYMENTS, payments, timeout_s=240)
        await views.mirrored(ENTRIES, *books, timeout_s=240)
        before = await digests(views)
    views.execute("DROP SCHEMA views CASCADE")
    client = client_of(views.settings)
    for index in INDICES:
        await client.indices.delete(index=index.name(views.settings, 1))
    await client.close()
    await asyncio.to_thread(migrate, views.settings)
    began = time.monotonic()
    async with views.running("ledger", "payments"), views.mirroring():
        await views.reached("payments", payments)
        await views.reached("ledger", *books)
        took = time.monotonic() - began
        await views.mirrored(PAYMENTS, payments, timeout_s=240)
        await views.mirrored(ENTRIES, *books, timeout_s=240)
        assert await digests(views) == before
        print(
            f"\nR9: {total:,} events, equal digests; live replay {total / took:,.0f} events/s, start included"
        )
        scratch = await projection_rate(views.settings)
        whole, comparison = await rebuild_rate(views.settings)
        found = await search_rate(views.settings)
    assert comparison.equal
    assert scratch.count == whole.count == sum(b.position for b in books)
    assert found.count == 16_000
    print(
        f"R9: into PostgreSQL {scratch.per_second:,.0f} events/s, a rebuild with its comparison {whole.per_second:,.0f} "
        f"events/s, into Elasticsearch {found.per_second:,.0f} documents/s"
    )


@contextmanager
def watched(monkeypatch: Any) -> Iterator[tuple[set[int], list[str]]]:
    """Ports that this process connects to, and Kafka producers that it starts."""
    ports: set[int] = set()
    producers: list[str] = []
    on = True

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if on and event == "socket.connect" and isinstance(args[1], tuple):
            ports.add(args[1][1])

    async def start(producer: AIOKafkaProducer) -> None:
        producers.append(repr(producer))
        raise AssertionError("a replay sends nothing")

    sys.addaudithook(hook)
    monkeypatch.setattr(AIOKafkaProducer, "start", start)
    yield ports, producers
    on = False


async def ends(views: Views, topics: list[str]) -> dict[str, int]:
    """Number of records in each topic."""
    parts = {
        TopicPartition(topic, shard): topic
        for service in views.services.values()
        for topic in topics
        if topic.startswith(f"{service}.")
        for shard in range(views.settings.shard_count(service))
    }
    consumer = AIOKafkaConsumer(bootstrap_servers=views.settings.kafka)
    await consumer.start()
    try:
        consumer.assign(list(parts))
        offsets = await consumer.end_offsets(list(parts))
    finally:
        await consumer.stop()
    return {t: sum(o for tp, o in offsets.items() if tp.topic == t) for t in topics}


async def test_replay_is_silent(make_views: Make, monkeypatch: Any) -> None:
    """A full rebuild of views and indices: no command, event, mail or webhook leaves; only our servers are spoken to."""
    views = await make_views("ledger", "payments", "compliance", "ai", "payment-saga")
    payments, _ = payment_story(views.service("payments"))
    book = LedgerHistory.begin(views.service("ledger"), 0, 20)
    book.random_transfers(500, random.Random(1))
    await views.publish(payments, book)
    services = list(views.services.values())
    await ensure_topics(views.settings, tuple(services))
    topics = [name(s) for s in services for name in (events_topic, commands_topic)]
    names = ("ledger", "payments", "compliance", "risk", "sagas", "operations")
    async with views.running(*names), views.mirroring():
        await views.mirrored(PAYMENTS, payments, timeout_s=240)
        await views.mirrored(ENTRIES, book, timeout_s=240)
        before = await ends(views, topics)
        with watched(monkeypatch) as (ports, producers):
            for name in names:
                await rebuild(views.settings, name)
            for index in INDICES:
                await rebuild_index(views.settings, index)
        after = await ends(views, topics)
    s = views.settings
    servers = {urlsplit(u if "//" in u else f"//{u}").port for u in (s.database, s.kafka, s.elasticsearch)}
    assert after == before
    assert before[events_topic(book.service)] == book.position
    assert before[commands_topic(book.service)] == 0
    assert producers == []
    assert ports, "the replay spoke to its servers"
    assert ports <= servers, f"it spoke to others: {ports - servers}"
    print(
        f"\nR11: a full replay of {len(names)} views and {len(INDICES)} indices sent {sum(after.values()) - sum(before.values())} records"
    )
