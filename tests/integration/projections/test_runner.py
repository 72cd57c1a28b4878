"""What a runner must keep, shown on real Kafka and PostgreSQL: each event once, in order, by one owner."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from dataclasses import replace

import psycopg
import pytest

from events.producer import new_producer
from events.topics import events_topic
from nexafi.database import async_engine, driver
from projections.marks import MarkLostError, lock_key
from projections.projector import Projector
from projections.runner import end_stuck
from tests.integration.projections.conftest import Make
from tests.kit.history import LedgerHistory
from tests.kit.oracle import assert_ledger_equals
from tests.kit.views import until


def story(service: str, shard: int, *, transfers: int = 300, accounts: int = 12) -> LedgerHistory:
    """A ledger with transfers, dated ones, and holds that end in every way."""
    history = LedgerHistory.begin(service, shard, accounts)
    rng = random.Random(shard)
    for n in range(transfers):
        if n % 20 == 0:
            history.tick(rng.randrange(1, 5_000_000))
        debit, credit = rng.sample(range(accounts), 2)
        amount = rng.randrange(1, 10**6)
        match n % 10:
            case 3:
                history.transfer(debit, credit, amount, effective_at=history.now_us - rng.randrange(10**7))
            case 5:
                hold = history.hold(debit, credit, amount)
                history.post_hold(hold, debit, credit, amount - amount // 3, released=amount // 3)
            case 7:
                hold = history.hold(debit, credit, amount)
                if n % 20 < 10:
                    history.void_hold(hold, amount)
            case 9:
                history.transfer(debit, credit, 10**30 + amount, description='tab\t"quote" \\ new\nline')
            case _:
                history.transfer(debit, credit, amount, reference=f"ref-{n}" if n % 4 == 0 else None)
    return history


async def test_view_equals_the_oracle(make_views: Make) -> None:
    """Every table, row by row, against a fold written without any of the view's code."""
    views = await make_views()
    histories = [story(views.service("ledger"), shard) for shard in (0, 1)]
    await views.publish(*histories)
    async with views.running("ledger"):
        await views.reached("ledger", *histories)
    assert_ledger_equals(views, histories)
    assert views.health.ready, views.health.problems


async def test_redelivered_events_change_nothing(make_views: Make) -> None:
    """A relay that restarts sends again from its mark; positions decide, not offsets."""
    views = await make_views()
    history = story(views.service("ledger"), 0)
    await views.publish(history)
    await views.publish(history, after=100)
    async with views.running("ledger"):
        await views.reached("ledger", history)
    before = await views.digest("ledger")
    await views.publish(history)
    more = history.position
    history.tick()
    history.transfer(1, 2, 5)
    await views.publish(history, after=more - 50)
    async with views.running("ledger"):
        await views.reached("ledger", history)
    assert before != await views.digest("ledger")
    assert_ledger_equals(views, [history])


async def test_killed_in_the_middle_then_equal(make_views: Make) -> None:
    """SIGKILL again and again while events pour in; the rows equal those of a run without."""
    views = await make_views()
    histories = [LedgerHistory.begin(views.service("ledger"), shard, 50) for shard in (0, 1)]
    for history in histories:
        history.random_transfers(12_000, random.Random(history.shard))
    await views.publish(*histories)
    total = sum(h.position for h in histories)
    kills = 0
    while kills < 4:
        before = sum((await views.positions("ledger")).values())
        process = views.spawn()
        while (now := sum((await views.positions("ledger")).values())) == before:  # noqa: ASYNC110 -- another process
            await asyncio.sleep(0.01)
        if now >= total:
            break
        process.kill()
        process.wait()
        kills += 1
    else:
        process = views.spawn()
        await views.reached("ledger", *histories)
    assert kills >= 2
    assert_ledger_equals(views, histories)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


async def step_on(projector: Projector) -> None:
    """Twenty polls."""
    for _ in range(20):
        await projector.step()
        await projector.flush()


async def test_second_runner_is_stopped_by_the_mark(make_views: Make) -> None:
    """Two projectors of one version: the one that loses the compare-and-swap writes nothing."""
    views = await make_views()
    history = story(views.service("ledger"), 0)
    await views.publish(history)
    async with views.projector() as first, views.projector() as second:
        while not second.marks[views.service("ledger"), 0].position:
            await second.step()
        await second.flush()
        with pytest.raises(MarkLostError):
            await step_on(first)
        while second.marks[views.service("ledger"), 0].position < history.position:
            await second.step()
        await second.flush()
    assert_ledger_equals(views, [history])


async def test_stand_by_takes_over(make_views: Make) -> None:
    """Two runners compete; when the one that works is gone the other goes on by itself."""
    views = await make_views()
    history = story(views.service("ledger"), 0)
    await views.publish(history)
    one, two = views.spawn(), views.spawn()
    await views.reached("ledger", history)
    for process in (one, two):
        before = history.position
        process.kill()
        process.wait()
        history.tick()
        history.random_transfers(50, random.Random(before))
        await views.publish(history, after=before)
        if process is one:
            await views.reached("ledger", history)
    async with views.running("ledger"):
        await views.reached("ledger", history)
    assert_ledger_equals(views, [history])


async def test_gap_is_shown_and_never_skipped(make_views: Make) -> None:
    """Without event n nothing after n is taken in; when it arrives, everything is."""
    views = await make_views()
    history = story(views.service("ledger"), 0, transfers=50)
    missing = history.events[30]
    held_back = replace(history, events=[e for e in history.events if e is not missing])
    await views.publish(held_back)
    async with views.running("ledger"):
        await until(lambda: "projection/ledger/events" in views.health.problems)
        assert (
            f"event {missing.envelope.position} is missing"
            in views.health.problems["projection/ledger/events"]
        )
        async with asyncio.timeout(60):  # what came before the gap is taken in, now or with the next attempt
            while (await views.positions("ledger"))[0] != missing.envelope.position - 1:  # noqa: ASYNC110 -- a row
                await asyncio.sleep(0.05)
        assert not views.health.ready
        await views.publish(history, after=missing.envelope.position - 1)
        await views.reached("ledger", history)
        await until(lambda: views.health.ready)
    assert_ledger_equals(views, [history])


async def test_unreadable_record_is_set_aside(make_views: Make) -> None:
    """A record that is no event of ours goes to the dead letters with its bytes and its cause."""
    views = await make_views()
    service = views.service("ledger")
    history = story(service, 0, transfers=20)
    producer = new_producer(views.settings, "vandal")
    await producer.start()
    await producer.send_and_wait(
        events_topic(service), b"\xff\x00garbage", partition=0, headers=[("x", b"1")]
    )
    await producer.stop()
    await views.publish(history)
    async with views.running("ledger"):
        await views.reached("ledger", history)
    rows = views.query("SELECT service, shard, record_offset, value, cause FROM views.dead_letters")
    assert rows == [(service, 0, 0, b"\xff\x00garbage", "header ce_history is missing")]
    assert_ledger_equals(views, [history])


async def test_unknown_event_stops_its_shard_only(make_views: Make) -> None:
    """A type that this code does not know is not passed over; the other shard goes on."""
    views = await make_views()
    service = views.service("ledger")
    good, strange = story(service, 0, transfers=20), story(service, 1, transfers=20)
    strange.add(strange.ledger_id, strange.events[0].event, type_="ledger.ledger-created.v2")
    after = strange.position
    strange.transfer(1, 2, 3)
    await views.publish(good, strange)
    async with views.running("ledger"):
        await views.reached("ledger", good)
        await until(lambda: "ledger-created.v2" in views.health.problems.get("projection/ledger/events", ""))
        assert (await views.positions("ledger"))[1] == after - 1


async def test_restored_store_rewinds_the_shard(make_views: Make) -> None:
    """A new history that begins below the mark undoes what the old one said from there on, for good."""
    views = await make_views()
    service = views.service("ledger")
    lost, other = story(service, 0), story(service, 1, transfers=30)
    await views.publish(lost, other)
    async with views.running("ledger"):
        await views.reached("ledger", lost, other)
    # The store was restored to position 200: a new history, in which events 201 and on are others.
    restored = LedgerHistory(service, 0, name="77777777-7777-4777-8777-777777777777")
    restored.ledger_id, restored.accounts = lost.ledger_id, lost.accounts
    restored.now_us, restored.position = lost.now_us + 10**6, 200
    restored.random_transfers(40, random.Random(9))
    truth = LedgerHistory(service, 0)
    truth.events = [*lost.events[:200], *restored.events]
    truth.position = restored.position
    await views.publish(restored)
    async with views.running("ledger"):
        await until(lambda: views.query("SELECT count(*) FROM views.histories")[0][0] == 3)
        await views.reached("ledger", truth, other)
        await until(
            lambda: views.query("SELECT max(position) FROM views.entries WHERE shard = 0")[0][0] == 240
        )
    assert_ledger_equals(views, [truth, other])
    # A reader that starts from the beginning comes to the same.
    digest = await views.digest("ledger")
    from projections.rebuild import rebuild

    assert (await rebuild(views.settings, "ledger")).equal
    assert await views.digest("ledger") == digest


async def test_stuck_session_is_ended(make_views: Make) -> None:
    """A runner stopped in the middle of a COPY keeps its lock past every time-out; a stand-by ends its session."""
    views = await make_views()
    engine = async_engine(views.settings, "stuck", pool_size=2)
    url = views.settings.database
    with psycopg.connect(url) as stuck:
        stuck.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (lock_key("ledger", 1),))
        stuck.execute("CREATE TEMP TABLE t (a int)")
        with (
            stuck.cursor() as cursor,
            contextlib.suppress(psycopg.OperationalError),
            cursor.copy("COPY t FROM STDIN") as copy,
        ):
            copy.write_row((1,))
            await asyncio.sleep(1.2)
            async with driver(engine) as connection:
                assert await end_stuck(connection, lock_key("ledger", 1), 60) == []
                assert len(await end_stuck(connection, lock_key("ledger", 1), 1)) == 1
        assert stuck.closed
    await engine.dispose()
