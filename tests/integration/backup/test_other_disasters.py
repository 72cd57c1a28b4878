"""Kafka is lost as well, a topic was tampered with, the same backup is needed twice, an old writer wakes up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from events.backup.loading import load_stores
from events.backup.manifest import BackupError, read_manifest
from events.backup.restoring import Restore
from events.producer import CommandProducer
from events.store.reached import refuse_unreached
from events.topics import commands_topic, ensure_topics, events_topic
from nexafi.database import async_engine
from nexafi.problems import ProblemError
from tests.kit.counter import Add, CounterDecider, Open
from tests.kit.engine import Engine, assert_no_gaps, assert_published_equals_stored, paused
from tests.kit.restoring import back_up, destroy, facts, restored

pytestmark = pytest.mark.kill


async def opened(engine: Engine, count: int = 4) -> list[str]:
    results = await asyncio.gather(*(engine.send(Open(name=f"c{i}"), f"open-{i}") for i in range(count)))
    return [str(r.result["counter_id"]) for r in results if r is not None]


async def added(engine: Engine, counters: list[str], name: str, each: int = 5) -> None:
    sent = (
        engine.send(Add(counter_id=c, amount=1), f"{name}-{c}-{n}") for c in counters for n in range(each)
    )
    assert all(r is not None and r.outcome == "accepted" for r in await asyncio.gather(*sent))


async def stopped(engine: Engine, writer: object) -> None:
    """Everything is published, and the writer has ended."""
    await engine.relay_settled()
    writer.terminate()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(writer.wait, 60) == 0  # type: ignore[attr-defined]


async def test_kafka_is_lost_as_well(engine: Engine, tmp_path: Path) -> None:
    """The backup is all there is: it is published anew from its first event, and the report says what that means."""
    writer = engine.spawn()
    counters = await opened(engine)
    await added(engine, counters, "before")
    await engine.relay_settled()
    await back_up(engine, tmp_path / "backup")
    before = facts(engine)
    await added(engine, counters, "after")
    await stopped(engine, writer)
    lost = heads(engine)
    destroy(engine)
    await lose_topics(engine)

    report = await restored(engine, tmp_path / "backup")
    await assert_tokens_of_a_lost_future_are_refused(engine, lost)

    assert not report.complete
    assert len(report.losses) == 2 * len({row[0] for row in before["events"]})  # both topics of each shard
    assert facts(engine) == before
    writer = engine.spawn()
    await added(engine, counters, "later")
    await added(engine, counters, "before")  # old keys still give their old answers
    await engine.relay_settled()
    published = await engine.published()
    assert {e.history for e, _ in published} == set(report.histories.values())
    assert_published_equals_stored(engine, published)
    assert set(engine.counters().values()) == {10}
    assert_no_gaps(engine)


def heads(engine: Engine) -> dict[str, int]:
    """Where every shard stands, as a token says it."""
    rows = engine.query("SELECT shard, next_position - 1 FROM {s}.shard_head")
    return {f"{engine.service}/{shard}": position for shard, position in rows}


async def assert_tokens_of_a_lost_future_are_refused(engine: Engine, lost: dict[str, int]) -> None:
    """What was handed out after the backup is not waited for; what was before is as good as ever."""
    database = async_engine(engine.settings, "tokens", pool_size=1)
    try:
        for source, position in heads(engine).items():
            await refuse_unreached(database, {source: position})
            if lost[source] > position:
                with pytest.raises(ProblemError) as refused:
                    await refuse_unreached(database, {source: lost[source]})
                assert (refused.value.status, refused.value.slug) == (400, "invalid-consistency-token")
                assert "restored to an earlier time" in refused.value.detail
    finally:
        await database.dispose()
    assert lost != heads(engine), "nothing was lost, so nothing was shown"


async def lose_topics(engine: Engine) -> None:
    """The service's topics are deleted and made again, empty."""
    names = [commands_topic(engine.service), events_topic(engine.service)]
    admin = AIOKafkaAdminClient(bootstrap_servers=engine.settings.kafka)
    await admin.start()
    try:
        await admin.delete_topics(names)
        async with asyncio.timeout(60):
            while set(names) & set(await admin.list_topics()):  # noqa: ASYNC110 -- the broker says when
                await asyncio.sleep(0.2)
    finally:
        await admin.close()
    async with asyncio.timeout(60):
        while True:
            try:
                await ensure_topics(engine.settings, (engine.service,))
                break
            except Exception:  # the broker still deletes
                await asyncio.sleep(0.5)
    await engine.producer.stop()
    engine.producer = CommandProducer(engine.settings)
    await engine.producer.start()


async def test_the_same_backup_is_needed_twice(engine: Engine, tmp_path: Path) -> None:
    """What happened after the first restore has another history, which the backup knows nothing of."""
    writer = engine.spawn()
    counters = await opened(engine)
    await added(engine, counters, "one")
    await engine.relay_settled()
    await back_up(engine, tmp_path / "backup")
    for name in ("two", "three"):
        await added(engine, counters, name)
        await stopped(engine, writer)
        before = facts(engine)
        destroy(engine)
        report = await restored(engine, tmp_path / "backup")
        assert report.complete, report.as_dict()
        assert facts(engine) == before
        writer = engine.spawn()
    await added(engine, counters, "four")
    await engine.relay_settled()
    published = await engine.published()
    assert len({e.history for e, _ in published}) == 3
    assert_published_equals_stored(engine, published)
    assert set(engine.counters().values()) == {20}


async def test_a_writer_from_before_the_restore_writes_nothing(engine: Engine, tmp_path: Path) -> None:
    old = engine.spawn("old")
    counters = await opened(engine)
    await added(engine, counters, "one")
    await engine.relay_settled()
    await back_up(engine, tmp_path / "backup")
    with paused(old):
        destroy(engine)
        report = await restored(engine, tmp_path / "backup")
        assert report.complete
        engine.spawn("new")
        await added(engine, counters, "two")
    await added(engine, counters, "three")
    epochs = [e for (e,) in engine.query("SELECT epoch FROM {s}.shard_head")]
    assert min(epochs) > 1 << 20
    await engine.relay_settled()
    assert_no_gaps(engine)
    assert_published_equals_stored(engine, await engine.published())
    assert set(engine.counters().values()) == {15}


async def test_an_event_that_was_forged_on_the_topic_is_not_taken_back(
    engine: Engine, tmp_path: Path
) -> None:
    writer = engine.spawn()
    counters = await opened(engine)
    await added(engine, counters, "one")
    await engine.relay_settled()
    await back_up(engine, tmp_path / "backup")
    await stopped(engine, writer)
    before = facts(engine)
    last, envelope = max(
        ((e.position, e) for e, _ in await engine.published() if e.shard == 0), key=lambda pair: pair[0]
    )
    envelope.position = last + 1
    envelope.stream_version += 1
    producer = AIOKafkaProducer(bootstrap_servers=engine.settings.kafka)
    await producer.start()
    value = b'{"counter_id":"%s","amount":1000000,"total":1000005}' % counters[0].encode()
    await producer.send_and_wait(events_topic(engine.service), value, partition=0, headers=envelope.headers())
    await producer.stop()
    destroy(engine)

    with pytest.raises(BackupError, match="does not hash to its id"):
        await restored(engine, tmp_path / "backup")

    manifest = read_manifest(tmp_path / "backup", engine.settings)
    load_stores(engine.settings, tmp_path / "backup", manifest)
    deciders = {engine.service: CounterDecider(engine.service)}
    async with Restore(engine.settings, manifest, deciders, accept_loss=True) as work:
        await work.roll_forward()
        await work.verify()
        work.begin_histories()
        work.make_ready(lambda _conn: None)
    assert not work.report.complete
    assert "does not hash" in work.report.losses[0]
    assert facts(engine) == before
