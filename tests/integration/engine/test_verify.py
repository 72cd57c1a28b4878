"""A database superuser changes history: every change is found, and its place is named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
import pytest

from events.store.recorder import ShardRecorder, open_datastore
from events.verify import ShardReport, verify_store
from events.verify_pool import Scope, verify_stores
from tests.kit.counter import Add, CounterDecider, Open
from tests.kit.engine import Engine

#: What is done to a store (``{s}`` is its schema), and a word of the finding.
EDITS: dict[str, tuple[str, str]] = {
    "a byte of an event": ("UPDATE {s}.events SET state = set_byte(state, 5, get_byte(state, 5) # 1) WHERE (shard, position) = (SELECT shard, max(position) FROM {s}.events GROUP BY shard ORDER BY shard LIMIT 1)", "Merkle"),
    "a byte of its metadata": ("UPDATE {s}.events SET metadata = set_byte(metadata, 9, get_byte(metadata, 9) # 1) WHERE position = 2", "Merkle"),
    "its type": ("UPDATE {s}.events SET topic = 'counter.closed.v1' WHERE position = 2", "Merkle"),
    "its stream": ("UPDATE {s}.events SET originator_id = gen_random_uuid() WHERE position = 2", "Merkle"),
    "its version": ("UPDATE {s}.events SET originator_version = 77 WHERE position = 2", "Merkle"),
    "an event is gone": ("DELETE FROM {s}.events WHERE position = 2", "gap"),
    "the end is gone": ("DELETE FROM {s}.events e WHERE position = (SELECT max(position) FROM {s}.events x WHERE x.shard = e.shard)", "end"),
    "a batch's root": ("UPDATE {s}.batches SET merkle_root = set_byte(merkle_root, 0, get_byte(merkle_root, 0) # 1)", "Merkle"),
    "a batch's chain hash": ("UPDATE {s}.batches SET chain_hash = set_byte(chain_hash, 0, get_byte(chain_hash, 0) # 1)", "chain"),
    "a batch's time": ("UPDATE {s}.batches SET time_us = time_us + 1", "chain"),
    "a batch is gone": ("DELETE FROM {s}.batches WHERE first_position = 1", "gap"),
    "the head's hash": ("UPDATE {s}.shard_head SET chain_hash = set_byte(chain_hash, 0, get_byte(chain_hash, 0) # 1)", "head"),
    "the head's position": ("UPDATE {s}.shard_head SET next_position = next_position + 1", "head"),
    "a result that points nowhere": ("UPDATE {s}.command_results SET position = 9999 WHERE command_id = (SELECT command_id FROM {s}.command_results LIMIT 1)", "results"),
    "an event of no batch": ("INSERT INTO {s}.events SELECT shard, 9999, gen_random_uuid(), 1, topic, metadata, state FROM {s}.events WHERE position = 2 AND shard = 0", "end"),
    "an event of no shard": ("INSERT INTO {s}.events SELECT 77, position, gen_random_uuid(), 1, topic, metadata, state FROM {s}.events WHERE position = 2 LIMIT 1", "shard 77"),
    "a head is gone": ("DELETE FROM {s}.shard_head WHERE shard = 1", "shard"),
    "a snapshot's state": ("UPDATE {s}.snapshots SET state = set_byte(state, 9, get_byte(state, 9) # 1)", "snapshot"),
    "a snapshot and its digest": ("UPDATE {s}.snapshots SET state = '{}', digest = sha256('{}')", "snapshot"),
    "a snapshot's chain hash": ("UPDATE {s}.snapshots SET chain_hash = set_byte(chain_hash, 0, get_byte(chain_hash, 0) # 1)", "snapshot"),
    "a snapshot's digest": ("UPDATE {s}.snapshots SET digest = set_byte(digest, 0, get_byte(digest, 0) # 1)", "snapshot"),
}  # fmt: skip


@pytest.fixture
async def history(engine: Engine) -> Callable[[], list[ShardReport]]:
    """Some counters with snapshots; the function verifies them."""
    engine.settings = engine.settings.model_copy(update={"snapshot_every": 10})
    process = engine.spawn()
    opened = await asyncio.gather(*(engine.send(Open(name=f"c{i}"), f"open-{i}") for i in range(8)))
    counters = [str(r.result["counter_id"]) for r in opened if r is not None]
    for round_number in range(8):
        await asyncio.gather(
            *(engine.send(Add(counter_id=c, amount=1), f"{round_number}-{c}") for c in counters)
        )
    await engine.relay_settled()
    process.terminate()
    process.wait(60)

    def verify() -> list[ShardReport]:
        recorder = ShardRecorder(
            open_datastore(engine.settings.database, engine.service), service=engine.service
        )
        try:
            return verify_store(recorder, CounterDecider(engine.service))
        finally:
            recorder.datastore.close()

    return verify


async def test_every_edit_is_found_and_named(
    engine: Engine, history: Callable[[], list[ShardReport]]
) -> None:
    sound = await asyncio.to_thread(history)
    assert [r.problem for r in sound] == [None, None]
    assert sum(r.events for r in sound) == 72
    assert sum(r.snapshots for r in sound) > 0
    schema = f'"{engine.service}"'
    tables = ("events", "batches", "shard_head", "snapshots", "command_results")
    with psycopg.connect(engine.settings.database, autocommit=True) as conn:
        for table in tables:
            conn.execute(f"CREATE TABLE {schema}.kept_{table} AS SELECT * FROM {schema}.{table}")
        for what, (edit, word) in EDITS.items():
            assert conn.execute(edit.replace("{s}", schema)).rowcount > 0, what
            found = [r.problem for r in await asyncio.to_thread(history) if r.problem is not None]
            assert found, f"not found: {what}"
            assert any(word in problem for problem in found), (what, found)
            for table in tables:
                conn.execute(f"TRUNCATE {schema}.{table}")
                conn.execute(f"INSERT INTO {schema}.{table} SELECT * FROM {schema}.kept_{table}")
        assert [r.problem for r in await asyncio.to_thread(history)] == [None, None]


async def test_a_store_is_verified_while_its_writer_works(
    engine: Engine, history: Callable[[], list[ShardReport]]
) -> None:
    """The bound is the heads of one moment: what is appended later is neither missing nor too much."""
    process = engine.spawn()
    opened = await engine.send(Open(name="live"), "live")
    assert opened is not None
    counter = str(opened.result["counter_id"])
    stop = asyncio.Event()

    async def keep_adding(lane: int) -> int:
        sent = 0
        while not stop.is_set():
            result = await engine.send(Add(counter_id=counter, amount=1), f"live-{lane}-{sent}")
            assert result is not None
            sent += 1
        return sent

    lanes = [asyncio.create_task(keep_adding(lane)) for lane in range(8)]
    seen: list[int] = []
    while len(seen) < 8 or seen[-1] < seen[0] + 50:
        reports = await asyncio.to_thread(history)
        assert [r.problem for r in reports] == [None, None]
        assert all(r.events == r.position for r in reports)
        seen.append(sum(r.events for r in reports))
    stop.set()
    added = sum(await asyncio.gather(*lanes))
    process.terminate()
    process.wait(60)
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]  # it did go on meanwhile
    assert sum(r.events for r in await asyncio.to_thread(history)) == 72 + 1 + added


async def test_verification_since_a_time_begins_on_a_snapshot(
    engine: Engine, history: Callable[[], list[ShardReport]]
) -> None:
    whole = {r.shard: r for r in await asyncio.to_thread(history)}
    (late,) = engine.query("SELECT min(last_time_us) FROM {s}.shard_head")[0]

    def verify(since_us: int) -> list[ShardReport]:
        return list(
            verify_stores(engine.settings.database, [CounterDecider(engine.service)], Scope(None, since_us))
        )

    for report in await asyncio.to_thread(verify, late):
        assert report.problem is None
        assert report.replayed
        assert report.first > 1
        assert report.events < whole[report.shard].events
        assert (report.digest, report.chain_hash) == (
            whole[report.shard].digest,
            whole[report.shard].chain_hash,
        )
    # An edit before that time is not looked at, one after it is found.
    engine.query_write("UPDATE {s}.events SET state = '{}' WHERE position = 1")
    assert {r.problem for r in await asyncio.to_thread(verify, late)} == {None}
    assert all(r.problem for r in await asyncio.to_thread(history))
    engine.query_write(
        "UPDATE {s}.events e SET metadata = '{}' FROM {s}.shard_head h "
        "WHERE e.shard = h.shard AND position = next_position - 1"
    )
    assert all(r.problem for r in await asyncio.to_thread(verify, late))


async def test_processes_find_what_one_does(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, history: Callable[[], list[ShardReport]]
) -> None:
    monkeypatch.setattr("events.verify_pool.WORTH_A_PROCESS", 1)
    alone = await asyncio.to_thread(history)

    def verify() -> list[ShardReport]:
        found = verify_stores(engine.settings.database, [CounterDecider(engine.service)], Scope(), jobs=2)
        return sorted(found, key=lambda r: r.shard)

    together = await asyncio.to_thread(verify)
    for report in [*alone, *together]:
        report.seconds = 0
    assert together == alone
    engine.query_write("UPDATE {s}.events SET topic = 'counter.closed.v1' WHERE position = 3 AND shard = 1")
    assert [r.problem is None for r in await asyncio.to_thread(verify)] == [True, False]
