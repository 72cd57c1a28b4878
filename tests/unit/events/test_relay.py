"""The relay against a Kafka that fails: what is committed arrives completely and in order, and the mark never runs ahead.

Each bug that is planted into the relay is caught by the same story.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

import events.relay
from events.deciding import Outgoing
from events.relay import Relay
from events.store import reading
from events.store.reading import StoredRow
from nexafi.role import Health
from tests.kit.scenario import ROOT
from tests.kit.source_edit import edit

SHARD = 3
SEEDS = 6


class Batch:
    """A batch under construction, as aiokafka has it; it takes so many records."""

    def __init__(self, room: int) -> None:
        self.records: list[int] = []
        self.room = room

    def append(
        self, *, timestamp: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]]
    ) -> object | None:
        if len(self.records) >= self.room:
            return None
        self.records.append(int(dict(headers)["ce_position"]))
        return object()

    def record_count(self) -> int:
        return len(self.records)

    def close(self) -> None:
        """Nothing more is added."""


class Kafka:
    """Keeps what it has acknowledged; a share of the batches fails, some of those after they were taken."""

    def __init__(self, rng: random.Random, failing: float) -> None:
        self.log: list[int] = []
        self.rng = rng
        self.failing = failing

    def create_batch(self) -> Batch:
        return Batch(room=4)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[None]:
        assert partition == SHARD
        await asyncio.sleep(0)  # as any network does, it lets others run
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        fate = self.rng.random()
        if fate >= self.failing / 2:
            self.log.extend(batch.records)  # below: refused outright
        if fate < self.failing:
            done.set_exception(ConnectionError("the broker went away"))
            done.exception()  # whoever waits hears of it; nobody may
        else:
            done.set_result(None)
        return done


class Store:
    """Rows and marks; what the relay reads when memory does not go on where it stands."""

    service = "counter"

    def __init__(self) -> None:
        self.rows: list[Outgoing] = []
        self.mark = 0
        self.reads = 0

    def append(self, count: int) -> list[Outgoing]:
        made = [
            Outgoing(
                len(self.rows) + n, ROOT, len(self.rows) + n, "counter.added.v1", 1, "acme", "me", "c", "d", "", "",
                b"{}", bytes(32),
            )
            for n in range(1, count + 1)
        ]  # fmt: skip
        self.rows += made
        return made

    def tail(self, _recorder: Any, shard: int, after: int, *, chunk: int = 5000, **_: Any) -> Any:
        self.reads += 1
        rows = [
            StoredRow(shard, o.position, UUID(o.stream), o.version, o.topic, b'{"time":1}', o.state)
            for o in self.rows[after : after + chunk]
        ]
        if rows:
            yield rows


async def story(monkeypatch: pytest.MonkeyPatch, seed: int, *, failing: float = 0.3) -> tuple[Kafka, Store]:
    """Batches are offered, some are forgotten, Kafka fails, the owner changes once; in the end all is quiet."""
    rng = random.Random(seed)
    kafka, store = Kafka(rng, failing), Store()
    acknowledged_at_mark: list[bool] = []

    def save(_recorder: Any, marks: dict[int, int]) -> None:
        acknowledged_at_mark.append(set(range(1, marks[SHARD] + 1)) <= set(kafka.log))
        store.mark = max(store.mark, marks[SHARD])

    monkeypatch.setattr(reading, "tail", store.tail)
    monkeypatch.setattr(reading, "relay_marks", lambda _: {SHARD: store.mark})
    monkeypatch.setattr(reading, "save_relay_marks", save)
    monkeypatch.setattr(events.relay, "RETRY_S", 0.001)
    monkeypatch.setattr(events.relay, "MARK_EVERY_S", 0.002)
    monkeypatch.setattr(events.relay, "MAX_QUEUED", 12)
    relay = Relay(store, kafka, Health())  # type: ignore[arg-type]
    await relay.open(SHARD, ROOT, 0)
    for step in range(25):
        made = store.append(rng.randint(1, 9))
        if rng.random() < 0.15:
            relay.reach_for(SHARD, made[-1].position)  # a commit whose outcome nobody knew
        else:
            relay.offer(SHARD, made)
        await asyncio.sleep(0.001 * rng.random())
        if step == 12:
            await relay.close([SHARD])
            await relay.open(SHARD, ROOT, len(store.rows))
    kafka.failing = 0.0
    for _ in range(200):  # the lane comes to rest, so that it does not read on by itself into what follows
        if not relay.lag:
            break
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.005)
    made = store.append(20)
    if seed % 2:
        relay.offer(SHARD, made)  # more than is kept in memory
    else:
        relay.reach_for(SHARD, made[-1].position)  # nothing follows a commit of which nobody heard
    await relay.stop(drain_s=0.5 if failing else 5.0)
    assert all(acknowledged_at_mark), "the mark ran ahead of what Kafka has"
    assert store.mark == len(store.rows), "the mark does not reach the end"
    last, kept = 0, []
    for position in kafka.log:  # what every consumer does
        if position > last:
            kept.append(position)
            last = position
    assert kept == list(range(1, len(store.rows) + 1)), "an event is missing or came before its turn"
    return kafka, store


async def test_everything_arrives_in_order_whatever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    repeats = reads = 0
    for seed in range(SEEDS):
        kafka, store = await story(monkeypatch, seed)
        repeats += len(kafka.log) - len(store.rows)
        reads += store.reads
    assert repeats > 0, "nothing was ever sent twice: no failure came between sending and marking"
    assert reads > 0, "the store was never read"


async def test_without_failures_nothing_is_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka, store = await story(monkeypatch, 1, failing=0.0)
    assert len(kafka.log) == len(store.rows)


BUGS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the relay moves before Kafka has answered": edit(Relay, "_send", "await delivery", "pass"),
    "it moves although sending failed": edit(
        Relay, "_run", "lane.queue.clear()", "lane.sent = lane.last_committed"
    ),
    "a flood that does not fit is forgotten": edit(
        Relay, "offer", "lane.last_committed = outgoing[-1].position",
        "lane.last_committed = outgoing[-1].position if len(lane.queue) + len(outgoing) <= MAX_QUEUED else lane.last_committed",
    ),
    "what is in memory is sent although something before it is missing": edit(
        Relay, "_next", "queue[0].position == lane.sent + 1", "True"
    ),
    "an unconfirmed commit is not published": lambda m: m.setattr(Relay, "reach_for", lambda *_: None),
    "the mark is what was committed": edit(Relay, "_write_marks", "{lane.shard: lane.sent for", "{lane.shard: lane.last_committed for"),
    "a new owner begins at the end": edit(Relay, "open", "marks.get(shard, 0)", "last_committed"),
    "parts of a run do not wait for each other": edit(
        Relay, "_send", "await (await producer.send_batch(builder, topic, partition=shard))",
        "await producer.send_batch(builder, topic, partition=shard)",
    ),
    "the end of a run is not sent": edit(
        Relay, "_send", "deliveries = [await producer.send_batch(builder, topic, partition=shard)]", "deliveries = []"
    ),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
async def test_a_planted_bug_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BUGS[bug](monkeypatch)
    caught = 0
    for seed in range(SEEDS):
        try:
            await story(monkeypatch, seed)
        except AssertionError:
            caught += 1
            break
    assert caught > 0, "no story noticed"
