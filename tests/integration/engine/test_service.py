"""A writer's service inside the test, so that its health can be read and its parts can be made to fail once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

import events.service
from events.errors import UnknownCommitError
from events.service import WriterService
from events.store.heads import acquire
from events.topics import commands_topic
from nexafi.ids import command_id, make_id, shard_of
from nexafi.role import Health, RoleContext
from schemas.common.envelope import CommandEnvelope
from tests.kit.counter import Add, CounterDecider, Open
from tests.kit.engine import Engine, assert_no_gaps, assert_published_equals_stored


@asynccontextmanager
async def served(
    engine: Engine,
    decider: CounterDecider | None = None,
    change: Callable[[WriterService], None] = lambda _: None,
) -> AsyncIterator[WriterService]:
    """The service, until the block ends; ``change`` may alter a part before it starts."""
    settings = engine.settings.model_copy(update={"instance": "inside"})
    ctx = RoleContext(settings, asyncio.Event(), Health())
    service = WriterService(ctx, decider or CounterDecider(engine.service))
    change(service)
    running = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        ctx.stop.set()
        await asyncio.wait_for(running, 60)


async def until(holds: Callable[[], bool], what: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.05)


async def on_both_shards(engine: Engine) -> list[str]:
    """A counter on each of the two shards."""
    found: dict[int, str] = {}
    for number in range(50):
        result = await engine.send(Open(name="x"), f"open-{number}")
        assert result is not None
        found.setdefault(result.shard, str(result.result["counter_id"]))
        if len(found) == 2:
            return [found[0], found[1]]
    raise AssertionError("50 counters on one shard")


async def test_what_was_in_hand_of_a_kept_shard_is_read_again_when_another_shard_is_lost(
    engine: Engine,
) -> None:
    """One poll brings commands of two shards, and one of the shards is somebody else's by now."""
    async with served(engine) as service:
        kept, lost = await on_both_shards(engine)
        partitions = list(service.consumer.assignment())
        service.consumer.pause(*partitions)
        await asyncio.to_thread(acquire, service.recorder, [1], "other")
        ends = {p: o + 1 for p, o in (await service.consumer.end_offsets(partitions)).items()}
        sends = [
            asyncio.create_task(engine.send(Add(counter_id=counter, amount=1), counter, wait_s=60.0))
            for counter in (kept, lost)
        ]
        while await service.consumer.end_offsets(partitions) != ends:  # noqa: ASYNC110 -- Kafka tells nobody
            await asyncio.sleep(0.02)
        service.consumer.resume(*partitions)
        await until(lambda: service.writer.stats.fenced == 1, lambda: service.writer.stats)
        following = await engine.send(Add(counter_id=kept, amount=1), "following")
        assert following is not None
        assert following.result == {"total": 2}, "what was in hand is skipped"
        answers = await asyncio.gather(*sends)
        assert [a is not None and a.result == {"total": 1} for a in answers] == [True, True]


async def test_a_commit_of_which_nobody_heard_is_published_although_nothing_follows(engine: Engine) -> None:
    """The connection breaks after the commit: the outcome is unknown, the events are there, and Kafka gets them."""

    def break_the_first_commit(service: WriterService) -> None:
        append, broken = service.recorder.append, [False]

        def commit_and_break(shards: Any) -> None:
            append(shards)
            if not broken[0] and any(s.rows for s in shards):
                broken[0] = True
                raise UnknownCommitError("the connection broke")

        service.recorder.append = commit_and_break  # type: ignore[method-assign]

    async with served(engine, change=break_the_first_commit) as service:
        opened = await engine.send(Open(name="x"), "first")
        assert opened is not None
        assert opened.outcome == "accepted"
        await engine.relay_settled(30)
        assert service.writer.stats.recoveries == 1
    assert_published_equals_stored(engine, await engine.published())
    assert len(await engine.published()) == 1


async def test_a_command_of_a_newer_version_pauses_its_shard_alone_until_the_code_knows_it(
    engine: Engine,
) -> None:
    newer = f"{engine.service}.add.v9"
    async with served(engine) as service:
        paused, other = await on_both_shards(engine)
        shard = shard_of(paused)
        cid = command_id("acme", "tester", "POST", "/newer", "1")
        head = CommandEnvelope(cid, newer, "acme", "tester", "aa")
        body = Add(counter_id=paused, amount=5).model_dump_json().encode()
        await engine.producer.send_raw(engine.service, shard, b"k", body, head.headers())
        behind = asyncio.create_task(engine.send(Add(counter_id=paused, amount=1), "behind"))
        health = service.ctx.health
        await until(
            lambda: newer in health.problems.get(f"{engine.service}/{shard}", ""), lambda: health.problems
        )
        assert not health.ready
        assert (await engine.send(Add(counter_id=other, amount=1), "other shard")).result == {"total": 1}  # type: ignore[union-attr]
        # Taking the shard again does not make the command known; it is read again, and waits again.
        await service._start_over("a test")
        await until(
            lambda: newer in health.problems.get(f"{engine.service}/{shard}", ""), lambda: health.problems
        )
        assert engine.query("SELECT * FROM {s}.dead_letters") == []
        assert engine.counters() == {other: 1}
        assert not behind.done()

    class Newer(CounterDecider):
        commands = {**CounterDecider.commands, newer: Add}  # noqa: RUF012

    async with served(engine, Newer(engine.service)) as service:
        result = await behind
        assert result is not None
        assert result.result == {"total": 6}, "decided in the order in which they came"
        await until(lambda: service.ctx.health.ready, lambda: service.ctx.health.problems)
    assert engine.query("SELECT * FROM {s}.dead_letters") == []
    assert_no_gaps(engine)


async def test_a_clock_too_far_from_the_databases_takes_the_service_out_until_it_is_right(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, wrong_by_us = events.service.clock_offset_us, [6_000_000]
    monkeypatch.setattr(
        events.service, "clock_offset_us", lambda recorder, now_us: honest(recorder, now_us + wrong_by_us[0])
    )
    async with served(engine) as service:
        health, name = service.ctx.health, f"{engine.service}/clock"
        await until(
            lambda: "+6.0 s from the database's" in health.problems.get(name, ""), lambda: health.problems
        )
        assert not health.ready
        wrong_by_us[0] = -4_000_000
        await until(lambda: health.ready, lambda: health.problems)


async def test_records_that_retention_took_before_they_were_decided_keep_the_shard_closed(
    engine: Engine,
) -> None:
    """It says how many are gone, and decides nothing, for what follows may depend on what is gone."""
    for number in range(5):
        cid = command_id("acme", "tester", "POST", "/lost", str(number))
        envelope = CommandEnvelope(cid, Open.TYPE, "acme", "tester", "aa")
        await engine.producer.send_raw(engine.service, 0, b"k", b'{"name":"x"}', envelope.headers())
    admin = AIOKafkaAdminClient(bootstrap_servers=engine.settings.kafka)
    await admin.start()
    await admin.delete_records(
        {TopicPartition(commands_topic(engine.service), 0): RecordsToDelete(before_offset=3)}
    )
    await admin.close()
    async with served(engine) as service:
        health = service.ctx.health
        await until(lambda: "3 undecided records are gone" in str(health.problems), lambda: health.problems)
        await asyncio.sleep(1.5)  # it tries again, and finds the same
        assert not health.ready
        assert engine.query("SELECT count(*) FROM {s}.command_results") == [(0,)]


async def test_ids_that_are_none_are_refused_or_set_aside_and_stop_nobody(engine: Engine) -> None:
    """A counter that was never there, on the right shard, and the next command in the same poll."""
    async with served(engine):
        (counter, _) = await on_both_shards(engine)
        nowhere = make_id(time.time_ns() // 1000, 0, command_id("a", "b", "POST", "/c", "d"), "counter", 0)
        refused, good = await asyncio.gather(
            engine.send(Add(counter_id=nowhere, amount=1), "nowhere"),
            engine.send(Add(counter_id=counter, amount=1), "somewhere"),
        )
        assert refused is not None
        assert refused.result["reason"] == "counter-not-found"
        assert good is not None
        assert good.result == {"total": 1}
