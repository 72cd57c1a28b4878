"""A batch is looked up while the one before is decided: a repeat is found however far behind the first it comes."""

from __future__ import annotations

import asyncio
import time

import pytest

from nexafi.ids import command_id
from schemas.common.envelope import CommandEnvelope
from tests.kit.counter import Open
from tests.kit.engine import Engine, assert_no_gaps

#: Commands of one batch, and distances of a repeat: in the batch, in the next ones, far behind.
BATCH = 3
DISTANCES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 20)


async def test_a_repeat_is_answered_at_every_distance(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given commands and their repeats waiting in the log; when a writer takes them in one poll; then each happens once."""
    keys: list[str] = []
    for distance in DISTANCES:
        fillers = [f"{distance}/{i}" for i in range(distance - 1)]
        keys += [f"{distance}/first", *fillers, f"{distance}/first"]
    for key in keys:
        engine.producer.post(
            engine.service, 0, key.encode(), Open(name=key).model_dump_json().encode(), headers(key)
        )
    last = await engine.send(Open(name="warm"), "warm", shard=0, wait_s=0.0)
    assert last is None
    monkeypatch.setenv("NEXAFI_BATCH_MAX_RECORDS", str(BATCH))
    engine.spawn()
    wanted = len(set(keys)) + 1
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if len(engine.query("SELECT 1 FROM {s}.command_results")) >= wanted:
            break
        await asyncio.sleep(0.2)
    assert len(engine.query("SELECT 1 FROM {s}.command_results")) == wanted
    assert len(engine.query("SELECT 1 FROM {s}.events")) == wanted
    # No repeat was stored and undone: that would have been a recovery, and a new epoch.
    assert engine.query("SELECT epoch FROM {s}.shard_head WHERE shard = 0") == [(1,)]
    assert_no_gaps(engine)


def headers(key: str) -> list[tuple[str, bytes]]:
    """Those of a command that nobody waits for."""
    cid = command_id("acme", "tester", "POST", "/open", key)
    return CommandEnvelope(cid, Open.TYPE, "acme", "tester", "aa", time_us=time.time_ns() // 1000).headers()
