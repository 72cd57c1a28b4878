"""A small domain for tests of the engine: counters that are incremented, closed, claimed and that expire."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import orjson

from events.decider import (
    Accepted,
    Claim,
    Context,
    Decider,
    Due,
    Emit,
    EventMeta,
    InvariantViolationError,
    Rejected,
)
from nexafi.ids import derived_id
from schemas.common.base import Command, Event, Id


class Open(Command):
    TYPE: ClassVar[str] = "counter.open.v1"
    name: str
    expires_in_us: int | None = None
    unique: str | None = None


class Add(Command):
    TYPE: ClassVar[str] = "counter.add.v1"
    counter_id: Id
    amount: int


class Close(Command):
    TYPE: ClassVar[str] = "counter.close.v1"
    counter_id: Id


class Reopen(Command):
    TYPE: ClassVar[str] = "counter.reopen.v1"
    counter_id: Id


class Expire(Command):
    TYPE: ClassVar[str] = "counter.expire.v1"
    counter_id: Id


class Opened(Event):
    TYPE: ClassVar[str] = "counter.opened.v1"
    counter_id: str
    name: str
    expires_us: int | None = None


class Added(Event):
    TYPE: ClassVar[str] = "counter.added.v1"
    counter_id: str
    amount: int
    total: int


class Closed(Event):
    TYPE: ClassVar[str] = "counter.closed.v1"
    counter_id: str
    total: int


class Reopened(Event):
    TYPE: ClassVar[str] = "counter.reopened.v1"
    counter_id: str
    total: int


@dataclass(slots=True)
class Counter:
    version: int
    total: int
    expires_us: int | None = None


@dataclass(slots=True)
class State:
    open: dict[str, Counter] = field(default_factory=dict)
    total: int = 0
    recalled: dict[str, Counter] = field(default_factory=dict)  # closed ones, not dumped
    heap: list[tuple[int, str]] = field(default_factory=list)


class CounterDecider(Decider[State]):
    """``bug`` plants a defect that the engine's property tests must catch."""

    state_version = 1
    commands: ClassVar = {c.TYPE: c for c in (Open, Add, Close, Reopen, Expire)}
    events: ClassVar = {e.TYPE: e for e in (Opened, Added, Closed, Reopened)}

    def __init__(self, service: str = "counter", bug: str = "") -> None:
        self.service = service  # type: ignore[misc]
        self.bug = bug
        self.seen = 0

    def initial(self, shard: int) -> State:
        return State()

    def needs(self, command: Command, state: State) -> Sequence[str]:
        identifier = getattr(command, "counter_id", None)
        if identifier is None or identifier in state.open or identifier in state.recalled:
            return ()
        return (identifier,)

    def hydrate(self, state: State, stream: str, history: Sequence[tuple[Event, EventMeta]]) -> None:
        event, meta = history[-1]
        if isinstance(event, Closed):
            state.recalled[stream] = Counter(meta.version, event.total)

    def decide(self, command: Command, state: State, ctx: Context) -> Accepted | Rejected:
        if isinstance(command, Open):
            identifier = ctx.new_id("counter")
            expires = ctx.now_us + command.expires_in_us if command.expires_in_us is not None else None
            claims = [Claim("name", command.unique, identifier, "/unique")] if command.unique else []
            event = Opened(counter_id=identifier, name=command.name, expires_us=expires)
            return Accepted([Emit(identifier, 1, event)], {"counter_id": identifier}, claims)
        identifier = command.counter_id  # type: ignore[attr-defined]
        counter = state.open.get(identifier)
        if isinstance(command, Reopen):
            closed = state.recalled.get(identifier)
            if closed is None:
                return Rejected("not-closed")
            return Accepted(
                [Emit(identifier, closed.version + 1, Reopened(counter_id=identifier, total=closed.total))]
            )
        if counter is None:
            return Rejected("counter-not-found", pointer="/counter_id")
        if isinstance(command, Add):
            if command.amount == 666:
                raise ValueError("the domain has a defect for this amount")
            if command.amount < 0 and counter.total + command.amount < 0:
                return Rejected("below-zero", pointer="/amount")
            self.seen += 1
            total = counter.total + command.amount + (self.seen if self.bug == "remembers-itself" else 0)
            return Accepted(
                [
                    Emit(
                        identifier,
                        counter.version + 1,
                        Added(counter_id=identifier, amount=command.amount, total=total),
                    )
                ],
                {"total": total},
            )
        return Accepted(
            [Emit(identifier, counter.version + 1, Closed(counter_id=identifier, total=counter.total))]
        )

    def evolve(self, state: State, event: Event, meta: EventMeta) -> State:
        identifier = meta.stream
        if isinstance(event, Opened):
            state.open[identifier] = Counter(1, 0, event.expires_us)
            if event.expires_us is not None:
                heapq.heappush(state.heap, (event.expires_us, identifier))
        elif isinstance(event, Added):
            counter = state.open[identifier]
            counter.total += event.amount
            counter.version = meta.version
            state.total += event.amount
        elif isinstance(event, Closed):
            counter = state.open.pop(identifier)
            state.recalled[identifier] = Counter(meta.version, counter.total)
        elif isinstance(event, Reopened):
            state.open[identifier] = Counter(meta.version, event.total)
            state.recalled.pop(identifier, None)
        return state

    def dump(self, state: State) -> bytes:
        rows = [[k, c.version, c.total, c.expires_us] for k, c in sorted(state.open.items())]
        if self.bug == "drops-deadlines":
            rows = [[k, v, t, None] for k, v, t, _ in rows]
        return orjson.dumps({"open": rows, "total": state.total})

    def load(self, data: bytes) -> State:
        raw = orjson.loads(data)
        state = State(total=raw["total"])
        for identifier, version, total, expires in raw["open"]:
            state.open[identifier] = Counter(version, total, expires)
            if expires is not None:
                heapq.heappush(state.heap, (expires, identifier))
        return state

    def check(self, state: State) -> None:
        if state.total < 0:
            raise InvariantViolationError("total below zero")

    def due(self, state: State, now_us: int, limit: int) -> Sequence[Due]:
        self._forget_stale(state)
        found = [
            Due(derived_id(i, "expire"), "acme", Expire(counter_id=i))
            for t, i in sorted(state.heap)
            if t <= now_us
        ]
        return [d for d in found if d.command.counter_id in state.open][:limit]  # type: ignore[attr-defined]

    def next_due(self, state: State) -> int | None:
        self._forget_stale(state)
        return state.heap[0][0] if state.heap else None

    @staticmethod
    def _forget_stale(state: State) -> None:
        while state.heap:
            deadline, identifier = state.heap[0]
            counter = state.open.get(identifier)
            if counter is not None and counter.expires_us == deadline:
                return
            heapq.heappop(state.heap)
