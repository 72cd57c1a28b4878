"""One shard of one service, run as the engine runs it, with crashes before and after the commit."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from events.decider import Accepted, Context, Decider, Emit, EventMeta, Rejected
from nexafi.ids import derived_id
from schemas.common.base import Command, Event
from schemas.common.outcomes import CommandRefused
from schemas.sagas.commands import ObserveEvent

if TYPE_CHECKING:
    from tests.unit.sagas.world import World

SHARD = 5
TENANT = "acme"
BEGINS = {"payments.payment-initiated.v1", "payments.refund-requested.v1"}


@dataclass
class Sent:
    """A command on its way."""

    id: str
    command: Command
    tenant: str = TENANT
    saga_id: str = ""
    actor: str = "caller"


@dataclass
class Published:
    """An event on its way to the router."""

    store: str
    position: int
    emit: Emit
    meta: EventMeta
    type: str


class Node:
    """One shard of one service, run as the engine does."""

    def __init__(self, world: World, decider: Decider[Any]) -> None:
        self.world = world
        self.decider = decider
        self.state = decider.initial(SHARD)
        self.inbox: deque[Sent] = deque()
        self.outbox: deque[Published] = deque()
        self.log: list[tuple[Emit, EventMeta, str]] = []
        self.streams: dict[str, list[tuple[Event, EventMeta]]] = {}
        self.results: dict[str, Accepted | Rejected] = {}
        self.snapshot: tuple[bytes, int] | None = None

    def step(self) -> None:
        """Take one command."""
        sent = self.inbox.popleft()
        world, trouble = self.world, self.world.trouble
        if sent.id in self.results and not self.forgotten(sent):
            return
        if world.chance(trouble.crash):  # before the commit: nothing happened, the command is read again
            self.decide(sent)
            self.restart()
            self.inbox.appendleft(sent)
            return
        self.results[sent.id] = decision = self.decide(sent)
        if isinstance(decision, Accepted):
            for emit in decision.events:
                kind = emit.event.TYPE
                self.append(emit, sent, f"{self.decider.service}.{kind}" if "." not in kind[:-3] else kind)
        elif sent.saga_id:
            refused = CommandRefused(
                command_id=sent.id,
                command_type=sent.command.TYPE,
                saga_id=sent.saga_id,
                reason=decision.reason,
                detail=decision.detail,
            )
            self.append(Emit(sent.id, 1, refused), sent, f"{self.decider.service}.{refused.TYPE}")
        if world.chance(trouble.crash):
            self.restart()

    def forgotten(self, sent: Sent) -> bool:
        """Results of the saga are kept for 90 days only: an old event may be observed again."""
        old = isinstance(sent.command, ObserveEvent) and sent.command.event_type not in BEGINS
        return old and self.world.chance(self.world.trouble.forget_results)

    def decide(self, sent: Sent) -> Accepted | Rejected:
        """What the domain says, with what it needs to be read back."""
        for stream in self.decider.needs(sent.command, self.state):
            if stream in self.streams:
                self.decider.hydrate(self.state, stream, self.streams[stream])
        ctx = Context(self.world.now_us, SHARD, sent.id, sent.tenant, sent.actor, sent.id, sent.saga_id)
        decision = self.world.whim(self.decider, sent) or self.decider.decide(sent.command, self.state, ctx)
        if isinstance(decision, Accepted):
            self.decider.check_events(decision.events)
        return decision

    def append(self, emit: Emit, sent: Sent, kind: str) -> None:
        """Commit one event, apply it, and hand it to the relay."""
        event = type(emit.event).from_json(emit.event.to_json())
        emit = emit._replace(event=event)
        history = self.streams.setdefault(emit.stream, [])
        if isinstance(event, CommandRefused):
            assert emit.version == 1
        else:
            assert emit.version == len(history) + 1, f"{kind}: version {emit.version} after {len(history)}"
        meta = EventMeta(
            emit.stream,
            emit.version,
            self.world.now_us,
            sent.tenant,
            sent.actor,
            sent.id,
            len(self.log) + 1,
            sent.saga_id,
        )
        self.log.append((emit, meta, kind))
        if not isinstance(event, CommandRefused):
            history.append((event, meta))
            self.state = self.decider.evolve(self.state, event, meta)
        self.outbox.append(Published(self.decider.service, meta.position, emit, meta, kind))

    def restart(self) -> None:
        """Forget memory; come back from the snapshot and its tail. Now and then a new snapshot is taken."""
        state, position = self.decider.initial(SHARD), 0
        if self.snapshot is not None:
            state, position = self.decider.load(self.snapshot[0]), self.snapshot[1]
        for emit, meta, _ in self.log[position:]:
            if not isinstance(emit.event, CommandRefused):
                state = self.decider.evolve(state, emit.event, meta)
        self.state = state
        self.decider.check(state)
        if self.world.chance(30):
            self.snapshot = (self.decider.dump(state), len(self.log))

    def fire(self) -> None:
        """Act on deadlines, before anything else is decided."""
        for due in self.decider.due(self.state, self.world.now_us, 100):
            sent = Sent(due.command_id, due.command, due.tenant, due.saga_id, "timer")
            if due.command_id not in self.results:
                self.inbox.appendleft(sent)
                self.step()
            if self is self.world.saga and self.world.chance(self.world.trouble.republish):
                # The deadline once more, under an id that the engine does not know, and late.
                self.inbox.append(replace(sent, id=derived_id(sent.id, "again")))

    def assert_replay_equal(self) -> None:
        """Full replay, and snapshot plus tail, give the live state."""
        live = self.decider.dump(self.state)
        state = self.decider.initial(SHARD)
        for emit, meta, _ in self.log:
            if not isinstance(emit.event, CommandRefused):
                state = self.decider.evolve(state, emit.event, meta)
        assert self.decider.dump(state) == live
        self.restart()
        assert self.decider.dump(self.state) == live
