"""given(events).when(command).then(events): domain tests read like the rule that they check.

A :class:`Scenario` runs a decider as the engine does (decide, check, evolve), with injected time and ids,
without any server::

    s = Scenario(LedgerDecider())
    created = s.when(CreateLedger(name="main")).accepted()
    s.when(PostTransaction(...)).rejected("insufficient-funds")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from events.decider import Accepted, Context, Decider, Emit, EventMeta, Rejected
from nexafi.ids import derived_id
from schemas.common.base import Command, Event

START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
ROOT = "00000000-0000-5000-8000-000000000000"


@dataclass
class Outcome:
    """What one command came to."""

    scenario: Scenario
    decision: Accepted | Rejected

    def accepted(self) -> dict[str, Any]:
        """Assert acceptance; the stored result (ids)."""
        assert isinstance(self.decision, Accepted), self.decision
        return self.decision.result

    def rejected(self, reason: str, pointer: str | None = None) -> Rejected:
        """Assert refusal for exactly this reason (and pointer, when given)."""
        assert isinstance(self.decision, Rejected), f"expected {reason}, was accepted: {self.decision}"
        assert self.decision.reason == reason, self.decision
        if pointer is not None:
            assert self.decision.pointer == pointer, self.decision
        return self.decision

    def then(self, *expected: Event | type[Event]) -> Self:
        """Assert that exactly these events (or events of these types) were appended, in order."""
        assert isinstance(self.decision, Accepted), self.decision
        happened = [e.event for e in self.decision.events]
        assert len(happened) == len(expected), happened
        for have, want in zip(happened, expected, strict=True):
            if isinstance(want, type):
                assert isinstance(have, want), (have, want)
            else:
                assert have == want
        return self


class Scenario:
    """One shard of a decider in memory."""

    def __init__(
        self, decider: Decider[Any], *, shard: int = 3, tenant: str = "acme", actor: str = "tester"
    ) -> None:
        self.decider = decider
        self.shard = shard
        self.tenant = tenant
        self.actor = actor
        self.now_us = START_US
        self.state = decider.initial(shard)
        self.log: list[tuple[Emit, EventMeta]] = []
        self._count = 0

    def given(self, *emits: Emit) -> Self:
        """Apply history directly."""
        for emit in emits:
            self._apply(emit)
        return self

    def at(self, now_us: int) -> Self:
        """Move time (never backwards)."""
        assert now_us >= self.now_us
        self.now_us = now_us
        return self

    def when(
        self, command: Command, *, tenant: str | None = None, command_id: str | None = None, saga_id: str = ""
    ) -> Outcome:
        """Decide a command and apply its events."""
        self._count += 1
        self.now_us += 1
        cid = command_id or derived_id(ROOT, self._count)
        ctx = Context(self.now_us, self.shard, cid, tenant or self.tenant, self.actor, cid, saga_id)
        for stream in self.decider.needs(command, self.state):
            history = [(e.event, m) for e, m in self.log if e.stream == stream]
            self.decider.hydrate(self.state, stream, history)
        before = self.decider.dump(self.state)
        decision = self.decider.decide(command, self.state, ctx)
        assert self.decider.dump(self.state) == before, "decide changed the state"
        if isinstance(decision, Accepted):
            self.decider.check_events(decision.events)
            for emit in decision.events:
                self._apply(emit, tenant=tenant, saga_id=saga_id)
            self.decider.check(self.state)
        return Outcome(self, decision)

    def run_due(self) -> list[Outcome]:
        """Run every deadline that has passed, as the writer does before a batch."""
        return [
            self.when(due.command, tenant=due.tenant, command_id=due.command_id, saga_id=due.saga_id)
            for due in self.decider.due(self.state, self.now_us, 1000)
        ]

    def replayed(self) -> Any:
        """State from a full replay of what happened, for comparison with the live one."""
        state = self.decider.initial(self.shard)
        for emit, meta in self.log:
            state = self.decider.evolve(state, emit.event, meta)
        return state

    def assert_replay_equal(self) -> None:
        """Snapshot, reload and full replay all give the same bytes."""
        live = self.decider.dump(self.state)
        assert self.decider.dump(self.replayed()) == live
        assert self.decider.dump(self.decider.load(live)) == live

    def _apply(self, emit: Emit, *, tenant: str | None = None, saga_id: str = "") -> None:
        versions = [e.version for e, _ in self.log if e.stream == emit.stream]
        assert emit.version == (versions[-1] + 1 if versions else 1), (
            f"gap in {emit.stream}: {versions} -> {emit.version}"
        )
        event = type(emit.event).model_validate_json(emit.event.to_json())  # what the store would give back
        meta = EventMeta(
            emit.stream,
            emit.version,
            self.now_us,
            tenant or self.tenant,
            self.actor,
            "",
            len(self.log) + 1,
            saga_id,
        )
        self.log.append((Emit(emit.stream, emit.version, event), meta))
        self.state = self.decider.evolve(self.state, event, meta)
