"""Real processes killed for real: nothing is lost, nothing is doubled, an old writer is fenced."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from events.failpoints import FAILPOINTS
from schemas.common.outcomes import CommandResult
from tests.kit.counter import Add, Open
from tests.kit.engine import Engine, assert_no_gaps, assert_published_equals_stored, paused

pytestmark = pytest.mark.kill


async def open_counters(engine: Engine, count: int) -> list[str]:
    results = await asyncio.gather(*(engine.send(Open(name=f"c{i}"), f"open-{i}") for i in range(count)))
    return [str(r.result["counter_id"]) for r in results if r is not None]


class Load:
    """Clients that add to counters with unique keys and remember what they were told."""

    def __init__(self, engine: Engine, counters: list[str]) -> None:
        self.engine = engine
        self.counters = counters
        self.acknowledged: dict[str, CommandResult] = {}
        self.sent: dict[str, str] = {}
        self.stop = False

    async def client(self, number: int) -> None:
        count = 0
        while not self.stop:
            key = f"{number}-{count}"
            counter = self.counters[(number + count) % len(self.counters)]
            self.sent[key] = counter
            result = await self.engine.send(Add(counter_id=counter, amount=1), key)
            if result is not None:
                self.acknowledged[key] = result
            count += 1

    async def verify(self) -> None:
        """Every key took effect exactly once, with the answer that was given."""
        for key, counter in self.sent.items():  # whoever got no answer asks again with the same key
            if key not in self.acknowledged:
                result = await self.engine.send(Add(counter_id=counter, amount=1), key)
                assert result is not None, f"no answer for {key}"
                self.acknowledged[key] = result
        expected: dict[str, int] = dict.fromkeys(self.counters, 0)
        for counter in self.sent.values():
            expected[counter] += 1
        assert {c: n for c, n in expected.items() if n} == self.engine.counters()
        # The totals that clients were told are each counter's 1..n, without repeats: one effect for each key.
        told: dict[str, list[int]] = {}
        for key, result in self.acknowledged.items():
            told.setdefault(self.sent[key], []).append(result.result["total"])
        for counter, totals in told.items():
            assert sorted(totals) == list(range(1, len(totals) + 1)), counter


async def test_kills_under_load_lose_and_double_nothing(engine: Engine) -> None:
    """R2, R4: SIGKILL of the writer again and again under load."""
    process = engine.spawn()
    load = Load(engine, await open_counters(engine, 10))
    clients = [asyncio.create_task(load.client(i)) for i in range(16)]
    rng = random.Random(1)
    for _ in range(8):
        await asyncio.sleep(rng.uniform(0.6, 1.6))
        process.kill()
        process.wait()
        process = engine.spawn()
    await asyncio.sleep(2.0)
    load.stop = True
    await asyncio.gather(*clients)
    await load.verify()
    assert len(load.sent) > 300
    assert_no_gaps(engine)
    await engine.relay_settled()
    assert_published_equals_stored(engine, await engine.published())


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


async def test_a_paused_writer_is_fenced(engine: Engine) -> None:
    """R6: SIGSTOP past the session time-out, takeover by another instance, SIGCONT: no stale effect."""
    first = engine.spawn("one", log=(first_log := engine.log_file("one")))
    load = Load(engine, await open_counters(engine, 6))
    clients = [asyncio.create_task(load.client(i)) for i in range(8)]
    processes = {"one": first}
    logs = {"one": first_log, "two": engine.log_file("two")}
    processes["two"] = engine.spawn("two", log=logs["two"])
    for round_number in range(3):
        await asyncio.sleep(3.0)
        name = ("one", "two")[round_number % 2]
        before = len(load.acknowledged)
        with paused(processes[name]):
            deadline = time.monotonic() + 100
            # Takeover: the other instance decides for all counters, so every client gets on.
            while len(load.acknowledged) < before + 200:
                assert time.monotonic() < deadline, "no takeover"
                await asyncio.sleep(0.2)
        await asyncio.sleep(2.0)
    load.stop = True
    await asyncio.gather(*clients)
    await load.verify()
    assert_no_gaps(engine)
    await engine.relay_settled()
    assert_published_equals_stored(engine, await engine.published())
    epochs = [e for (e,) in engine.query("SELECT epoch FROM {s}.shard_head")]
    assert min(epochs) >= 2


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
