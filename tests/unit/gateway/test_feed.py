"""No loss and no repetition, whatever the order of storing, publishing, reading and cutting: a world moved by a seed.

The real hub and the real feed; in place of Kafka and the services' histories a store whose events are published
late, again after a crash, and while a page of history is being read.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from aiokafka import ConsumerRecord

from events.subscription import Batch, RawEvent
from gateway import feed as feed_module
from gateway.feed import Event, Feed
from gateway.hub import Hub, Listener
from gateway.upstream import Reply
from nexafi.settings import Settings
from schemas.common import tokens

SOURCES = [("ledger", 0), ("ledger", 1), ("payments", 0)]
PAGE = 3
MINE = "acme"


class World:
    """Stores of two services, what of them is published, and a hub that may be a new one at any time."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.stored: dict[str, list[str]] = {f"{s}/{n}": [] for s, n in SOURCES}
        self.published: dict[str, int] = dict.fromkeys(self.stored, 0)
        self.hub = Hub(Settings())
        self.open = True

    def move(self) -> None:
        """Something happens, or nothing."""
        for _ in range(self.dice.randint(0, 3)):
            source = self.dice.choice(list(self.stored))
            if self.open and self.dice.random() < 0.5:
                self.stored[source].append(self.dice.choice([MINE, MINE, "other"]))
            else:
                self._publish(source)

    def _publish(self, source: str, *, all_of_it: bool = False) -> None:
        first = self.published[source]
        if first and self.dice.random() < 0.3:
            first -= self.dice.randint(1, min(first, 3))  # the relay repeats itself
        last = len(self.stored[source])
        if not all_of_it:
            last = min(last, max(first, self.published[source]) + self.dice.randint(0, 3))
        records = [self._record(source, n) for n in range(first, last)]
        self.published[source] = max(self.published[source], last)
        service, _, shard = source.partition("/")
        if records:
            self.hub._take(Batch(service, int(shard), records, 0))

    def finish(self) -> None:
        """Nothing more is stored, everything is published."""
        self.open = False
        for source in self.stored:
            self._publish(source, all_of_it=True)

    def _attributes(self, source: str, index: int) -> dict[str, Any]:
        service, _, shard = source.partition("/")
        return {
            "type": f"{service}.happened.v1",
            "source": f"nexafi/{service}",
            "subject": "s",
            "time": f"{index:06d}",
            "tenant": self.stored[source][index],
            "history": "h",
            "shard": int(shard),
            "position": index + 1,
            "correlationid": "c",
            "causationid": "c",
        }

    def _record(self, source: str, index: int) -> RawEvent:
        headers = [(f"ce_{k}", str(v).encode()) for k, v in self._attributes(source, index).items()]
        fields: dict[str, Any] = dict.fromkeys(ConsumerRecord.__dataclass_fields__)
        return RawEvent(ConsumerRecord(**(fields | {"headers": headers, "value": b"{}", "offset": index})))

    async def get(self, service: str, target: str, *, tenant: str, actor: str, timeout_s: float = 1) -> Reply:
        """History over HTTP; the world moves before, while and after a page is read."""
        self.move()
        await asyncio.sleep(0)
        query = dict(part.split("=", 1) for part in target.partition("?")[2].split("&"))
        positions, items, more = tokens.decode(query["after"]), [], False
        for source, events in self.stored.items():
            if source.startswith(f"{service}/"):
                first = positions.get(source, 0)
                page = range(first, min(len(events), first + PAGE))
                items += [self._attributes(source, n) | {"data": {}} for n in page if events[n] == tenant]
                positions[source] = first + len(page)
                more = more or len(page) == PAGE
                self.move()
        body = {"items": items, "next": tokens.encode(positions), "more": more}
        self.move()
        await asyncio.sleep(0)
        return Reply(200, [], orjson.dumps(body))

    def heads(self) -> dict[str, int]:
        return {source: len(events) for source, events in self.stored.items()}


def _feed(world: World, token: dict[str, int]) -> Feed:
    listener = Listener(MINE, lambda _: True)
    made = Feed(world.hub, world, listener, "key:1", services=("ledger", "payments"), wants=lambda _: True)
    world.hub.enter(listener)
    made.start(world.heads(), token)
    return made


async def _listen(world: World, token: dict[str, int], seen: list[Event]) -> dict[str, int]:
    """One connection: events until it is cut or all is over; the last id that was received."""
    made = _feed(world, token)
    left = world.dice.randint(0, 25)
    async for event in made.history():
        if left == 0:
            world.hub.leave(made.listener)
            return token
        seen.append(event)
        token, left = dict(made.seen), left - 1
    while left:
        world.move()
        if (arrived := made.arrived()) is None:
            if not world.open:
                break
            if world.dice.random() < 0.1:
                token = dict(made.seen)  # a sign of life
            left -= 1
            continue
        seen.append(arrived)
        token, left = dict(made.seen), left - 1
    world.hub.leave(made.listener)
    return token


async def _story(seed: int) -> tuple[World, list[Event]]:
    world = World(seed)
    seen: list[Event] = []
    token: dict[str, int] = dict.fromkeys(world.stored, 0)
    for round_ in range(12):
        token = await _listen(world, token, seen)
        if world.dice.random() < 0.2:
            world.hub = Hub(Settings())  # the gateway was started again
        if round_ == 10:
            world.finish()
    fruitless = 0
    while len(seen) < sum(events.count(MINE) for events in world.stored.values()) and fruitless < 20:
        before = len(seen)
        token = await _listen(world, token, seen)
        fruitless = fruitless + 1 if len(seen) == before else 0  # what is missing then will never come
    return world, seen


def _wrong(world: World, seen: list[Event]) -> bool:
    for source, events in world.stored.items():
        expected = [n + 1 for n, tenant in enumerate(events) if tenant == MINE]
        if [e.position for e in seen if e.source == source] != expected:
            return True
    return False


SEEDS = range(100)


async def test_whatever_happens_each_event_comes_once_and_in_order() -> None:
    total = 0
    for seed in SEEDS:
        world, seen = await _story(seed)
        assert not _wrong(world, seen), f"seed {seed}"
        total += len(seen)
    assert total > 2_000


def _no_second_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    async def once(self: Feed) -> Any:
        for service in self._services:
            async for event in self._pages(service):
                yield event
        self.listener.attached = True

    monkeypatch.setattr(Feed, "history", once)


def _no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def always(self: Feed, arrival: Any) -> bool:
        self.seen[arrival.source] = arrival.position
        return True

    monkeypatch.setattr(Feed, "_new", always)


def _history_before_joining(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passing over what the hub has handed on although it was not attached to hear it."""
    plain = Feed.arrived

    def arrived(self: Feed) -> Event | None:
        self.seen |= {s: max(p, self.seen[s]) for s, p in self._hub.positions.items() if s in self.seen}
        return plain(self)

    monkeypatch.setattr(Feed, "arrived", arrived)


@pytest.mark.parametrize("plant", [_no_second_reading, _no_memory, _history_before_joining])
async def test_a_planted_mistake_is_found(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    assert feed_module.PAGE > PAGE
    plant(monkeypatch)
    found = False
    for seed in SEEDS:
        world, seen = await _story(seed)
        if found := _wrong(world, seen):
            break
    assert found
