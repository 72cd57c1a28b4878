"""Writers that are killed or paused again and again while clients go on: nothing lost, doubled, skipped or stale."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.kit.engine import Engine, assert_no_gaps, assert_published_equals_stored, paused
from tests.kit.load import Load, open_counters
from tests.kit.soak import Figure, Printed, figures

pytestmark = pytest.mark.kill
#: A kill is let happen after so many seconds of load.
_BETWEEN_S = (0.4, 1.4)


async def assert_history_is_whole(engine: Engine, load: Load) -> None:
    """Each key one effect, positions without gaps, and Kafka has what the store has, in order."""
    await load.verify()
    assert_no_gaps(engine)
    await engine.relay_settled()
    assert_published_equals_stored(engine, await engine.published())


@figures("R2")
async def test_a_key_that_is_sent_at_once_and_again_has_one_effect(
    engine: Engine, figure: Figure, printed: Printed
) -> None:
    """R2: each key 1-5 times at once, while the writer is killed; all who ask hear the same."""
    process = engine.spawn()
    load = Load(engine, await open_counters(engine, 20))
    rng = random.Random(2)
    keys = iter(range(figure["keys"]))
    done = asyncio.Event()

    async def client() -> None:
        for number in keys:
            counter = load.counters[number % len(load.counters)]
            await asyncio.gather(*(load.once(f"k{number}", counter) for _ in range(rng.randint(1, 5))))

    clients = asyncio.gather(*(client() for _ in range(40)))
    clients.add_done_callback(lambda _: done.set())
    kills = 0
    for number in range(figure["kills"]):
        share = figure["keys"] * (number + 1) // (figure["kills"] + 1)
        await _until(lambda s=share: len(load.acknowledged) >= s or done.is_set(), "nobody gets on")
        process.kill()
        process.wait()
        process = engine.spawn()
        kills += 1
    await clients
    await assert_history_is_whole(engine, load)
    assert len(load.sent) == figure["keys"]
    assert load.sends > 2 * figure["keys"]
    printed(
        "R2", keys=len(load.sent), sends=load.sends, kills=kills, differing_answers=0, effects=len(load.sent)
    )


@figures("R4")
async def test_what_was_acknowledged_survives_every_kill(
    engine: Engine, figure: Figure, printed: Printed
) -> None:
    """R4: SIGKILL of the writer under load; whoever was answered finds what he was told."""
    process = engine.spawn()
    load = Load(engine, await open_counters(engine, 10))
    clients = [asyncio.create_task(load.client(i)) for i in range(32)]
    rng = random.Random(1)
    kills = 0
    while kills < figure["kills"] or len(load.acknowledged) < figure["acknowledgements"]:
        if kills < figure["kills"]:
            before = len(load.acknowledged)
            await _until(lambda b=before: len(load.acknowledged) > b + 20, "it does not work again")
            await asyncio.sleep(rng.uniform(*_BETWEEN_S))
            process.kill()
            process.wait()
            process = engine.spawn()
            kills += 1
        else:
            await asyncio.sleep(0.1)
    load.stop = True
    acknowledged = len(load.acknowledged)
    await asyncio.gather(*clients)
    await assert_history_is_whole(engine, load)
    printed("R4", acknowledgements=acknowledged, kills=kills, lost=0)


@figures("R6")
async def test_a_writer_that_wakes_up_after_a_takeover_changes_nothing(
    engine: Engine, figure: Figure, printed: Printed
) -> None:
    """R6: stopped inside its work past the session time-out; when it goes on, it is refused and says so.

    It stops by itself once before its commit and once after it, in turn, so that it always wakes up with something
    to write. At last one is stopped from outside, wherever it was.
    """
    log = engine.log_file("resident")
    engine.spawn("resident", log=log)
    load = Load(engine, await open_counters(engine, 12))
    clients = [asyncio.create_task(load.client(i)) for i in range(24)]
    refusals = 0
    for number in range(figure["pauses"]):
        place = ("append", "commit")[number % 2]
        own = engine.log_file(f"visitor-{number}")
        visitor = engine.spawn(f"visitor-{number}", failpoint=f"{place}:{5 + number}:stop", log=own)
        await _until(lambda p=visitor.pid: psutil.Process(p).status() == psutil.STATUS_STOPPED, "not stopped")
        # Takeover: the other decides for all counters, so that every client gets on.
        before = len(load.acknowledged)
        await _until(lambda b=before: len(load.acknowledged) > b + 300, "no takeover")
        psutil.Process(visitor.pid).resume()
        await _until(
            lambda f=own: _refused(f),
            lambda f=own, n=number: (
                f"pause {n}: it was not refused, or did not say so: {f.read_text()[-4000:]}"
            ),
        )
        refusals += 1
        visitor.terminate()
        assert await asyncio.to_thread(visitor.wait, 60) == 0
    other = engine.spawn("other")
    await asyncio.sleep(2.0)
    with paused(other):
        before = len(load.acknowledged)
        await _until(lambda: len(load.acknowledged) > before + 300, "no takeover")
    await asyncio.sleep(1.0)
    load.stop = True
    await asyncio.gather(*clients)
    await assert_history_is_whole(engine, load)
    assert refusals == figure["pauses"]
    printed(
        "R6", pauses=figure["pauses"] + 1, refusals_logged=refusals, stale_effects=0, commands=len(load.sent)
    )


def _refused(log: Path) -> bool:
    """It looked at the heads, or its group told it first that the shards are another's: its batch did not commit."""
    said = log.read_bytes() if log.exists() else b""
    return (
        b"fenced: another owner has taken these shards" in said
        or b"did not commit while shards were given up" in said
    )


async def _until(holds: Callable[[], bool], what: str | Callable[[], str], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        await asyncio.sleep(0.02)


@figures("R8")
async def test_the_relay_loses_and_disorders_nothing_when_killed_between_send_and_mark(
    engine: Engine, figure: Figure, printed: Printed
) -> None:
    """R8: Kafka has the events and the mark does not say so, again and again."""
    process = engine.spawn()
    load = Load(engine, await open_counters(engine, 8))
    process.terminate()
    process.wait(60)
    clients = [asyncio.create_task(load.client(i)) for i in range(12)]
    rng = random.Random(8)
    for number in range(figure["kills"]):
        place = ("publish", "mark")[number % 2]
        process = engine.spawn(failpoint=f"{place}:{rng.randint(1, 12)}")
        code = await asyncio.to_thread(process.wait, 120)
        assert code == -9, f"{place} was not reached"
    engine.spawn()
    await asyncio.sleep(1.0)
    load.stop = True
    await asyncio.gather(*clients)
    await load.verify()
    await engine.relay_settled()
    published = await engine.published()
    assert_published_equals_stored(engine, published)
    stored = sum(n for (n,) in engine.query("SELECT count(*) FROM {s}.events"))
    assert len(published) > stored, "no kill came between sending and marking"
    printed(
        "R8",
        kills=figure["kills"],
        events=stored,
        sent_again=len(published) - stored,
        missing=0,
        out_of_order=0,
    )
