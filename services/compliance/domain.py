"""What compliance decides about a payment, and when it refuses.

::

    screened --nothing alike--> clear
        |
        +-----a hit----------> case open --an officer--> released | blocked
                                   |
                                   +--the payment ended otherwise--> withdrawn

* A payment is *screened once*, against the list that is loaded then. The event names the version of the list and of
  the matcher, so a decision can be explained and repeated years later; a replay never screens again. A second
  request for the same payment, under another command id, is refused as ``payment-already-screened``: what was found stands,
  and a list that has changed since is a reason for a new screening of the party, not for another answer about the past.
* The ids of the screening and of its case follow from the payment's id: a payment has at most one case.
* A case is *decided* once, by the officer who is the event's actor (the gateway checks the scope), or *withdrawn* once by
  the payment's saga. Whichever comes first stands; the other is refused as ``case-closed``.
* A party's name never enters an event. A hit names the party by its role and the list entry by its public name.
* Other tenants see ``payment-not-found`` and ``case-not-found``.

Open cases are in memory; a closed one leaves it and is read back when a command asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import orjson

from events.begun import BegunStreams, made_us
from events.decider import (
    Accepted,
    Context,
    Decider,
    Emit,
    EventMeta,
    InvariantViolationError,
    Rejected,
)
from nexafi.ids import is_id, make_id
from schemas.common.base import Command, Event
from schemas.compliance import commands as c
from schemas.compliance import events as e
from services.compliance.reasons import REASONS
from services.compliance.screening import Match, Screener

Decision = Accepted | Rejected
#: Closed cases kept at hand; above it the oldest go. Any of them can be read again from its stream.
MAX_CLOSED: Final = 5_000


@dataclass(slots=True)
class OpenCase:
    """A payment that waits for an officer. ``version`` is the stream's."""

    tenant: str
    payment_id: str
    version: int = 1


@dataclass(slots=True)
class State:
    """``open`` is what a snapshot has; the rest only spares a look into the store."""

    shard: int
    open: dict[str, OpenCase] = field(default_factory=dict)
    screened: BegunStreams = field(default_factory=lambda: BegunStreams(from_first_event=True))
    closed: dict[str, str] = field(default_factory=dict)


def screening_id(payment_id: str, shard: int) -> str:
    """Id of a payment's screening on a shard of this service."""
    return make_id(made_us(payment_id), shard, payment_id, "screening")


def case_id(payment_id: str, shard: int) -> str:
    """Id that the case of a payment has, if there is one."""
    return make_id(made_us(payment_id), shard, payment_id, "case")


def _refuse(reason: str, pointer: str | None = None) -> Rejected:
    return Rejected(reason, REASONS[reason], pointer)


class ComplianceDecider(Decider[State]):
    """Decides with what ``screener`` finds. Without one it can replay and handle cases, and refuses to screen."""

    service: ClassVar[str] = "compliance"
    state_version: ClassVar[int] = 1
    commands: ClassVar[Mapping[str, type[Command]]] = c.COMMANDS
    events: ClassVar[Mapping[str, type[Event]]] = e.EVENTS

    def __init__(self, screener: Screener | None = None) -> None:
        self.screener = screener

    def initial(self, shard: int) -> State:
        return State(shard)

    # ------------------------------------------------------------------ decide

    def decide(self, command: Command, state: State, ctx: Context) -> Decision:
        match command:
            case c.ScreenPayment():
                return self._screen(command, state, ctx)
            case c.DecideCase():
                case = _case(command.case_id, state, ctx)
                return case if isinstance(case, Rejected) else _decide_case(command, case)
            case c.WithdrawCase():
                case = _case(command.case_id, state, ctx)
                return case if isinstance(case, Rejected) else _withdraw(command, case, ctx)
            case _:
                raise TypeError(f"not a command of compliance: {type(command).__name__}")

    def _screen(self, command: c.ScreenPayment, state: State, ctx: Context) -> Decision:
        payment_id = command.payment_id
        if not is_id(payment_id):
            return _refuse("payment-id-invalid", "/payment_id")
        screening = screening_id(payment_id, state.shard)
        if (tenant := state.screened.tenant_of(screening)) is not None:
            seen = tenant == ctx.tenant
            return _refuse("payment-already-screened" if seen else "payment-not-found", "/payment_id")
        if self.screener is None:
            raise InvariantViolationError("a payment can not be screened without a screener")
        hits = [
            hit
            for subject in command.subjects
            for hit in _hits(self.screener, subject, self.screener.screen(subject.name, subject.country))
        ]
        case = case_id(payment_id, state.shard) if hits else None
        completed = e.ScreeningCompleted.trusted(
            {
                "screening_id": screening,
                "payment_id": payment_id,
                "outcome": "hit" if hits else "clear",
                "list_version": self.screener.list_version,
                "matcher": self.screener.matcher,
                "threshold_bp": self.screener.threshold_bp,
                "hits": hits,
                "case_id": case,
            }
        )
        emits = [Emit(screening, 1, completed)]
        result: dict[str, Any] = {"screening_id": screening, "outcome": completed.outcome}
        if case is not None:
            opened = e.CaseOpened(case_id=case, screening_id=screening, payment_id=payment_id, hits=hits)
            emits.append(Emit(case, 1, opened))
            result["case_id"] = case
        return Accepted(emits, result)

    # ------------------------------------------------------------------ evolve

    def evolve(self, state: State, event: Event, meta: EventMeta) -> State:
        match event:
            case e.ScreeningCompleted():
                state.screened.note(event.screening_id, meta.time_us, meta.tenant)
            case e.CaseOpened():
                state.open[event.case_id] = OpenCase(meta.tenant, event.payment_id, meta.version)
            case e.CaseDecided() | e.CaseWithdrawn():
                state.open.pop(event.case_id, None)
                _remember_closed(state, event.case_id, meta.tenant)
            case _:
                raise TypeError(f"not an event of compliance: {type(event).__name__}")
        return state

    # ------------------------------------------------------------------ memory

    def dump(self, state: State) -> bytes:
        open_cases = [[i, k.tenant, k.payment_id, k.version] for i, k in sorted(state.open.items())]
        return orjson.dumps({"shard": state.shard, "open": open_cases})

    def load(self, data: bytes) -> State:
        found = orjson.loads(data)
        cases = {i: OpenCase(tenant, payment, version) for i, tenant, payment, version in found["open"]}
        return State(found["shard"], cases, BegunStreams(from_first_event=False))

    def check(self, state: State) -> None:
        for identifier, case in state.open.items():
            if identifier != case_id(case.payment_id, state.shard):
                raise InvariantViolationError(f"case {identifier} is not of payment {case.payment_id}")

    def needs(self, command: Command, state: State) -> Sequence[str]:
        match command:
            case c.ScreenPayment() if is_id(command.payment_id):
                stream = screening_id(command.payment_id, state.shard)
                return () if state.screened.can_tell(stream, command.payment_id) else (stream,)
            case c.DecideCase() | c.WithdrawCase():
                known = command.case_id in state.open or command.case_id in state.closed
                return () if known else (command.case_id,)
            case _:
                return ()

    def hydrate(self, state: State, stream: str, history: Sequence[tuple[Event, EventMeta]]) -> None:
        if not history:
            return
        first, last = history[0], history[-1][0]
        if isinstance(first[0], e.ScreeningCompleted):
            state.screened.recall(stream, first[1].tenant)
        elif isinstance(last, e.CaseDecided | e.CaseWithdrawn):
            _remember_closed(state, stream, first[1].tenant)


def _hits(screener: Screener, subject: c.ScreeningSubject, matches: Sequence[Match]) -> list[e.ScreeningHit]:
    """The part of an event that names a party by its role only."""
    return [
        e.ScreeningHit(
            role=subject.role,
            list_id=screener.list_id,
            entry_id=match.entry_id,
            entry_name=match.entry_name,
            matched_name=match.matched_name,
            program=match.program,
            score_bp=match.score_bp,
            features=[e.MatchFeature(**feature._asdict()) for feature in match.features],
        )
        for match in matches
    ]


def _case(identifier: str, state: State, ctx: Context) -> OpenCase | Rejected:
    case = state.open.get(identifier)
    if case is not None and case.tenant == ctx.tenant:
        return case
    closed = state.closed.get(identifier) == ctx.tenant
    return _refuse("case-closed" if closed else "case-not-found", "/case_id")


def _decide_case(command: c.DecideCase, case: OpenCase) -> Accepted:
    decided = e.CaseDecided(
        case_id=command.case_id,
        payment_id=case.payment_id,
        decision=command.decision,
        note=command.note,
        reason=command.reason,
    )
    return Accepted([Emit(command.case_id, case.version + 1, decided)], {"case_id": command.case_id})


def _withdraw(command: c.WithdrawCase, case: OpenCase, ctx: Context) -> Decision:
    if ctx.saga_id != case.payment_id:
        return _refuse("saga-only")
    withdrawn = e.CaseWithdrawn(case_id=command.case_id, payment_id=case.payment_id, reason=command.reason)
    return Accepted([Emit(command.case_id, case.version + 1, withdrawn)], {"case_id": command.case_id})


def _remember_closed(state: State, identifier: str, tenant: str) -> None:
    state.closed.pop(identifier, None)
    state.closed[identifier] = tenant
    if len(state.closed) > MAX_CLOSED:
        del state.closed[next(iter(state.closed))]
