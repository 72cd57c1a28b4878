"""A writer process on real servers: answers, idempotency, claims, deadlines, poison, history checks."""

from __future__ import annotations

import asyncio
import time

import orjson

from events.topics import commands_topic
from nexafi.ids import command_id, shard_of
from schemas.common.envelope import CommandEnvelope
from tests.kit.counter import Add, Close, Open, Reopen
from tests.kit.engine import Engine, assert_no_gaps, assert_published_equals_stored


async def opened(engine: Engine, key: str, **fields: object) -> str:
    result = await engine.send(Open(name=key, **fields), key)  # type: ignore[arg-type]
    assert result is not None
    assert result.outcome == "accepted", result
    return str(result.result["counter_id"])


async def test_a_command_is_decided_stored_published_and_answered(engine: Engine) -> None:
    engine.spawn()
    counter = await opened(engine, "first")
    added = await engine.send(Add(counter_id=counter, amount=5), "add")
    assert added is not None
    assert added.result == {"total": 5}
    assert added.shard == shard_of(counter)
    refused = await engine.send(Add(counter_id=counter, amount=-6), "too much")
    assert refused is not None
    assert (refused.outcome, refused.result["reason"]) == ("rejected", "below-zero")
    await engine.relay_settled()
    assert_published_equals_stored(engine, await engine.published())
    assert_no_gaps(engine)


async def test_the_same_key_gives_the_same_answer_and_another_body_a_conflict(engine: Engine) -> None:
    engine.spawn()
    counter = await opened(engine, "one")
    answers = await asyncio.gather(
        *(engine.send(Add(counter_id=counter, amount=1), "same") for _ in range(20))
    )
    assert len({a.model_dump_json() for a in answers if a is not None}) == 1
    assert engine.counters() == {counter: 1}
    other = await engine.send(Add(counter_id=counter, amount=1), "same", request_hash="bb")
    assert other is not None
    assert other.conflict
    assert engine.counters() == {counter: 1}


async def test_a_claim_is_won_once_across_shards(engine: Engine) -> None:
    engine.spawn()
    results = await asyncio.gather(
        *(engine.send(Open(name=f"n{i}", unique="golden"), f"claim-{i}") for i in range(12))
    )
    outcomes = [r.outcome for r in results if r is not None]
    assert len(outcomes) == 12
    assert outcomes.count("accepted") == 1
    refusals = {tuple(r.result.items()) for r in results if r is not None and r.outcome == "rejected"}
    assert {dict(r)["reason"] for r in refusals} == {"already-claimed"}
    assert {dict(r)["pointer"] for r in refusals} == {"/unique"}
    assert len(engine.query("SELECT 1 FROM {s}.events")) == 1
    # The losers were refused for good, the others go on.
    assert await opened(engine, "after") is not None
    assert_no_gaps(engine)


async def test_a_deadline_is_acted_on_without_any_command_coming(engine: Engine) -> None:
    engine.spawn()
    await opened(engine, "short", expires_in_us=300_000)
    deadline = time.monotonic() + 10
    topics: list[str] = []
    while len(topics) < 2 and time.monotonic() < deadline:
        topics = [t for (t,) in engine.query("SELECT topic FROM {s}.events ORDER BY position")]
        await asyncio.sleep(0.1)
    assert topics == ["counter.opened.v1", "counter.closed.v1"]


async def test_closed_things_come_back_from_the_store(engine: Engine) -> None:
    """`needs` loads a stream that left memory, also when its last event is in the same batch."""
    process = engine.spawn()
    counter = await opened(engine, "lazarus")
    await engine.send(Add(counter_id=counter, amount=7), "seven")
    closed, reopened = await asyncio.gather(
        engine.send(Close(counter_id=counter), "close"), engine.send(Reopen(counter_id=counter), "reopen")
    )
    assert closed is not None
    assert reopened is not None
    assert (closed.outcome, reopened.outcome) == ("accepted", "accepted")
    await engine.send(Close(counter_id=counter), "close again")
    process.kill()
    process.wait()
    engine.spawn()
    again = await engine.send(Reopen(counter_id=counter), "reopen after restart")
    assert again is not None
    assert again.outcome == "accepted"
    total = await engine.send(Add(counter_id=counter, amount=1), "one more")
    assert total is not None
    assert total.result == {"total": 8}


async def test_poison_is_set_aside_with_its_bytes_and_cause(engine: Engine) -> None:
    engine.spawn()
    counter = await opened(engine, "good")
    shard = shard_of(counter)
    producer = engine.producer
    cid = command_id("acme", "tester", "POST", "/poison", "1")
    head = CommandEnvelope(cid, "counter.add.v1", "acme", "tester", "aa")
    await producer.send_raw(engine.service, shard, b"k", b"\xff not json", head.headers())
    await producer.send_raw(engine.service, shard, b"k", b"{}", [("nothing", b"here")])
    await producer.send_raw(
        engine.service, shard, b"k", b"{}", CommandEnvelope(cid, "other.x.v1", "a", "b").headers()
    )
    defect = await engine.send(Add(counter_id=counter, amount=666), "defect")
    assert defect is None or defect.outcome == "failed"
    good = await engine.send(Add(counter_id=counter, amount=2), "fine")
    assert good is not None
    assert good.result == {"total": 2}
    letters = engine.query(
        "SELECT record_offset, error, cause, value FROM {s}.dead_letters ORDER BY record_offset"
    )
    assert [e for _, e, _, _ in letters] == [
        "UnreadableRecordError",
        "UnreadableRecordError",
        "UnreadableRecordError",
        "ValueError",
    ]
    assert bytes(letters[0][3]) == b"\xff not json"
    assert "ce_id is missing" in letters[1][2]
    assert_no_gaps(engine)


async def test_a_command_of_a_newer_version_pauses_its_shard_and_is_never_set_aside(engine: Engine) -> None:
    process = engine.spawn()
    counter = await opened(engine, "good")
    shard = shard_of(counter)
    cid = command_id("acme", "tester", "POST", "/newer", "1")
    newer = CommandEnvelope(cid, f"{engine.service}.add.v9", "acme", "tester", "aa")
    await engine.producer.send_raw(engine.service, shard, b"k", b"{}", newer.headers())
    assert await engine.send(Add(counter_id=counter, amount=1), "behind", wait_s=3) is None
    assert engine.query("SELECT * FROM {s}.dead_letters") == []
    process.terminate()
    assert process.wait(60) == 0


async def test_a_data_error_sets_aside_one_command_and_keeps_the_rest(engine: Engine) -> None:
    """PostgreSQL refuses one row (a stream version that exists): halves find it."""
    process = engine.spawn()
    counters = [await opened(engine, f"c{i}") for i in range(6)]
    victim = counters[0]
    process.terminate()
    process.wait(60)
    # Someone with a database client has put an event where the writer will write: the append must fail.
    engine.query_write(
        "INSERT INTO {s}.events (shard, position, originator_id, originator_version, topic, metadata, state) "
        "VALUES (99, 1, %s, 2, 'counter.added.v1', '{}', '{}')",
        victim,
    )
    sends = [engine.send(Add(counter_id=c, amount=1), f"add-{i}-{c}") for i in range(5) for c in counters]
    waiting = asyncio.gather(*sends)
    await asyncio.sleep(1.0)
    engine.spawn()
    results = await waiting
    ok = [r for r in results if r is not None and r.outcome == "accepted"]
    assert len(ok) == 25
    letters = engine.query("SELECT error, cause FROM {s}.dead_letters")
    assert len(letters) == 5
    assert all(e == "AppendDataError" and "23505" in c for e, c in letters)


async def test_a_topic_that_lost_undecided_records_is_refused(engine: Engine) -> None:
    """Retention ate what was never decided: the writer says how much is gone and does not start."""
    process = engine.spawn()
    await opened(engine, "before")
    process.terminate()
    process.wait(60)
    engine.query_write("UPDATE {s}.shard_head SET next_offset = 1000000")
    log = engine.log_file()
    engine.spawn(log=log)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if log.exists() and b"not the same topic" in log.read_bytes():
            break
        await asyncio.sleep(0.2)
    else:
        raise AssertionError(log.read_bytes()[-2000:])
    assert await engine.send(Open(name="x"), "refused while so", wait_s=2) is None


def test_topic_and_body_are_plain_cloudevents() -> None:
    """The envelope alone says what a record is; the value is plain JSON."""
    head = CommandEnvelope("00000000-0000-5000-8000-000000000000", "counter.open.v1", "acme", "me")
    assert dict(head.headers())["ce_specversion"] == b"1.0"
    assert orjson.loads(Open(name="x").model_dump_json()) == {
        "name": "x",
        "expires_in_us": None,
        "unique": None,
    }
    assert commands_topic("ledger") == "ledger.commands"
