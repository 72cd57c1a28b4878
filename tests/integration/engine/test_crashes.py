"""Real processes killed for real: nothing is lost, nothing is doubled, an old writer is fenced."""

from __future__ import annotations

import asyncio
import time

import pytest

from events.failpoints import FAILPOINTS
from tests.kit.engine import Engine, assert_no_gaps, assert_published_equals_stored
from tests.kit.load import Load, open_counters

pytestmark = pytest.mark.kill


@pytest.mark.parametrize("failpoint", FAILPOINTS)
async def test_every_failpoint_is_safe(engine: Engine, failpoint: str) -> None:
    """R5: the process dies exactly there, five times; one effect for each key whichever it is."""
    process = engine.spawn()
    load = Load(engine, await open_counters(engine, 4))
    process.terminate()
    process.wait(20)
    clients = [asyncio.create_task(load.client(i)) for i in range(6)]
    for round_number in range(5):
        process = engine.spawn(failpoint=f"{failpoint}:{3 + 7 * round_number}")
        code = await asyncio.to_thread(process.wait, 120)
        assert code == -9, f"{failpoint} was not reached"
    engine.spawn()
    await asyncio.sleep(1.0)
    load.stop = True
    await asyncio.gather(*clients)
    await load.verify()
    assert_no_gaps(engine)
    await engine.relay_settled()
    assert_published_equals_stored(engine, await engine.published())


async def test_a_stale_epoch_writes_nothing(engine: Engine) -> None:
    """The fence itself: after another owner's bump, an append of the old epoch changes no row."""
    from events.errors import FencedError
    from events.store.append import single_append
    from events.store.heads import acquire
    from events.store.recorder import ShardRecorder, open_datastore

    recorder = ShardRecorder(open_datastore(engine.settings.database, engine.service), service=engine.service)
    old = acquire(recorder, [0], "old")[0]
    acquire(recorder, [0], "new")
    stale = single_append(
        0, old.epoch, old.next_position, old.next_offset, 5, old.chain_hash, old.last_time_us, []
    )
    with pytest.raises(FencedError):
        recorder.append([stale])
    assert engine.query("SELECT next_offset FROM {s}.shard_head WHERE shard = 0") == [(0,)]
    recorder.datastore.close()


async def test_a_writer_stopped_inside_its_transaction_is_ended(engine: Engine) -> None:
    """A backend that holds the head's row while its client is stopped does not stop a takeover."""
    import psycopg

    from events.store.heads import acquire
    from events.store.recorder import ShardRecorder, open_datastore

    holder = psycopg.connect(engine.settings.database)
    holder.execute(f'UPDATE "{engine.service}".shard_head SET owner = %s WHERE shard = 0', ("stopped",))
    recorder = ShardRecorder(open_datastore(engine.settings.database, engine.service), service=engine.service)
    started = time.monotonic()
    head = await asyncio.to_thread(acquire, recorder, [0], "new")
    assert head[0].owner == "new"
    assert time.monotonic() - started < 10
    with pytest.raises(psycopg.OperationalError):
        holder.execute("SELECT 1")
    recorder.datastore.close()
