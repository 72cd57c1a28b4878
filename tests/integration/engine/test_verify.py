"""A database superuser changes history: every change is found, and its place is named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
import pytest

from events.store.recorder import ShardRecorder, open_datastore
from events.verify import ShardReport, verify_store
from tests.kit.counter import Add, CounterDecider, Open
from tests.kit.engine import Engine

#: What is done to a store (``{s}`` is its schema), and a word of the finding.
EDITS: dict[str, tuple[str, str]] = {
    "a byte of an event": ("UPDATE {s}.events SET state = set_byte(state, 5, get_byte(state, 5) # 1) WHERE (shard, position) = (SELECT shard, max(position) FROM {s}.events GROUP BY shard ORDER BY shard LIMIT 1)", "Merkle"),
    "a byte of its metadata": ("UPDATE {s}.events SET metadata = set_byte(metadata, 9, get_byte(metadata, 9) # 1) WHERE position = 2", "Merkle"),
    "its type": ("UPDATE {s}.events SET topic = 'counter.closed.v1' WHERE position = 2", "Merkle"),
    "its stream": ("UPDATE {s}.events SET originator_id = gen_random_uuid() WHERE position = 2", "Merkle"),
    "its version": ("UPDATE {s}.events SET originator_version = 77 WHERE position = 2", "version"),
    "an event is gone": ("DELETE FROM {s}.events WHERE position = 2", "gap"),
    "the end is gone": ("DELETE FROM {s}.events e WHERE position = (SELECT max(position) FROM {s}.events x WHERE x.shard = e.shard)", "end"),
    "a batch's root": ("UPDATE {s}.batches SET merkle_root = set_byte(merkle_root, 0, get_byte(merkle_root, 0) # 1)", "Merkle"),
    "a batch's chain hash": ("UPDATE {s}.batches SET chain_hash = set_byte(chain_hash, 0, get_byte(chain_hash, 0) # 1)", "chain"),
    "a batch's time": ("UPDATE {s}.batches SET time_us = time_us + 1", "chain"),
    "a batch is gone": ("DELETE FROM {s}.batches WHERE first_position = 1", "gap"),
    "the head's hash": ("UPDATE {s}.shard_head SET chain_hash = set_byte(chain_hash, 0, get_byte(chain_hash, 0) # 1)", "head"),
    "the head's position": ("UPDATE {s}.shard_head SET next_position = next_position + 1", "head"),
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
    tables = ("events", "batches", "shard_head", "snapshots")
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
