"""The payment saga as a service: observations and timers in, steps and commands out.

One stream for each flow: a payment's has the payment's id, a refund's the refund's. An ended flow leaves memory;
what turns up for it later is looked up by its stream.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import orjson

from events.decider import Accepted, Context, Decider, Due, Emit, EventMeta, InvariantViolationError
from nexafi.ids import derived_id
from sagas.payment import deadlines, refund, saga
from sagas.payment.flow import Flow, PaymentFlow, RefundFlow, Step, flow_from_dict, stream_of
from sagas.payment.policy import Policy
from sagas.payment.sending import REFUND_REFERENCE, Send, command_id, issued
from sagas.payment.turn import Turn
from schemas.common.base import Command, Event
from schemas.common.outcomes import CommandIssued
from schemas.sagas.commands import COMMANDS, ObserveEvent, TimerFired
from schemas.sagas.events import EVENTS, SagaEnded, SagaStepped

#: Ended flows whose version is kept at hand; others are read again from their stream.
MAX_ENDED: Final = 20_000
#: A payment younger than this can not have been seen by a saga without the engine knowing the command: results
#: are kept longer. Older ones are looked up.
YOUNG_US: Final = 30 * 24 * 3600 * 1_000_000
_BEGINS: Final = {"payments.payment-initiated.v1", "payments.refund-requested.v1"}
_LATE: Final = {"ledger.hold-placed.v1", "compliance.screening-completed.v1"}


@dataclass(slots=True)
class State:
    """One shard: flows under way, their streams' versions, and what follows from them."""

    flows: dict[str, Flow] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    clock_us: int = 0
    # --- derived, or read again: not in a snapshot
    ended: dict[str, int] = field(default_factory=dict)
    timers: list[tuple[int, str, int]] = field(default_factory=list)
    refund_of: dict[str, str] = field(default_factory=dict)  # id of a command a refund waits for -> refund
    waits_for: dict[str, tuple[str, ...]] = field(default_factory=dict)  # and the reverse

    def put(self, stream: str, flow: Flow) -> None:
        """The flow as it is now."""
        self.flows[stream] = flow
        if flow.deadline_us is not None:
            heapq.heappush(self.timers, (flow.deadline_us, stream, flow.number))
        if isinstance(flow, RefundFlow):
            self._waits_for(stream, (command_id(flow, "move"), command_id(flow, f"record/{flow.number}")))

    def end(self, stream: str, version: int) -> None:
        """Forget a flow; remember that it was."""
        flow = self.flows.pop(stream, None)
        self.versions.pop(stream, None)
        if isinstance(flow, RefundFlow):
            self._waits_for(stream, ())
        self.ended[stream] = version
        while len(self.ended) > MAX_ENDED:
            del self.ended[next(iter(self.ended))]

    def _waits_for(self, stream: str, command_ids: tuple[str, ...]) -> None:
        for old in self.waits_for.pop(stream, ()):
            del self.refund_of[old]
        if command_ids:
            self.waits_for[stream] = command_ids
            self.refund_of.update(dict.fromkeys(command_ids, stream))


class PaymentSagaDecider(Decider[State]):
    """Runs :mod:`sagas.payment.saga` and :mod:`sagas.payment.refund` on the engine."""

    service: ClassVar[str] = "payment-saga"
    state_version: ClassVar[int] = 1
    commands: ClassVar[Mapping[str, type[Command]]] = COMMANDS
    events: ClassVar[Mapping[str, type[Event]]] = {
        **EVENTS,
        f"payment-saga.{CommandIssued.TYPE}": CommandIssued,
    }

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()

    def initial(self, shard: int) -> State:  # noqa: ARG002
        return State()

    # ------------------------------------------------------------------ decide

    def decide(self, command: Any, state: State, ctx: Context) -> Accepted:
        """Never refuses: what does not fit, changes nothing."""
        if isinstance(command, TimerFired):
            return self._timer(command, state, ctx)
        return self._observe(command, state, ctx)

    def _observe(self, event: ObserveEvent, state: State, ctx: Context) -> Accepted:
        stream = _stream(event, state)
        flow = state.flows.get(stream)
        turn: Turn[PaymentFlow] | Turn[RefundFlow] | None = None
        if isinstance(flow, PaymentFlow):
            turn = saga.react(flow, event, ctx.now_us, self.policy)
        elif isinstance(flow, RefundFlow):
            turn = refund.react(flow, event, ctx.now_us, self.policy)
        elif stream in state.ended:
            late, sends = saga.after_end(event, ctx.now_us)
            return Accepted(self._commands(stream, state.ended[stream], late, sends))
        elif event.event_type == "payments.payment-initiated.v1":
            turn = saga.begin(event, ctx.now_us, self.policy)
        elif event.event_type == "payments.refund-requested.v1":
            turn = refund.begin(event, ctx.now_us, self.policy)
        if flow is None and turn is not None:
            turn.flow.correlation = ctx.correlation_id or None
        return self._accept(turn, state, event.event_type)

    def _timer(self, timer: TimerFired, state: State, ctx: Context) -> Accepted:
        flow = state.flows.get(timer.saga_id)
        turn: Turn[PaymentFlow] | Turn[RefundFlow] | None = None
        if isinstance(flow, PaymentFlow):
            turn = deadlines.time_out(flow, timer.step, ctx.now_us, self.policy)
        elif isinstance(flow, RefundFlow):
            turn = refund.time_out(flow, timer.step, ctx.now_us, self.policy)
        return self._accept(turn, state, timer.TYPE)

    def _accept(
        self, turn: Turn[PaymentFlow] | Turn[RefundFlow] | None, state: State, observed: str
    ) -> Accepted:
        if turn is None:
            return Accepted([])
        flow = turn.flow
        stream = stream_of(flow)
        version = state.versions.get(stream, 0) + 1
        event: Event
        if turn.ended is not None:
            outcome, reason = turn.ended
            event = SagaEnded(saga_id=flow.payment_id, outcome=outcome, reason=reason, token=flow.seen)
        else:
            event = SagaStepped(
                saga_id=flow.payment_id,
                observed=observed,
                state=flow.to_dict(),
                deadline_us=flow.deadline_us,
            )
        return Accepted([Emit(stream, version, event), *self._commands(stream, version, flow, turn.sends)])

    def _commands(self, stream: str, version: int, flow: Flow, sends: Sequence[Send]) -> list[Emit]:
        return [
            Emit(stream, version + n, issued(send, flow, self.policy))
            for n, send in enumerate(sends, start=1)
        ]

    # ------------------------------------------------------------------ evolve

    def evolve(self, state: State, event: Event, meta: EventMeta) -> State:
        stream = meta.stream
        state.clock_us = meta.time_us
        if isinstance(event, SagaEnded):
            state.end(stream, meta.version)
            return state
        if isinstance(event, SagaStepped):
            state.put(stream, flow_from_dict(event.state))
        if stream in state.flows:
            state.versions[stream] = meta.version
        else:
            state.ended[stream] = meta.version
        return state

    def needs(self, command: Any, state: State) -> Sequence[str]:
        if not isinstance(command, ObserveEvent):
            return ()
        kind, stream = command.event_type, _stream(command, state)
        if stream in state.flows or stream in state.ended:
            return ()
        if kind in _BEGINS:
            return () if command.time_us > state.clock_us - YOUNG_US else (stream,)
        return (stream,) if kind in _LATE else ()

    def hydrate(self, state: State, stream: str, history: Sequence[tuple[Event, EventMeta]]) -> None:
        if stream not in state.flows and history:
            state.end(stream, history[-1][1].version)

    # ------------------------------------------------------------------ deadlines

    def due(self, state: State, now_us: int, limit: int) -> Sequence[Due]:
        found: list[tuple[int, str, int]] = []
        out: list[Due] = []
        while len(out) < limit and (first := _first(state)) is not None and first[0] <= now_us:
            found.append(heapq.heappop(state.timers))
            _, stream, number = first
            flow = state.flows[stream]
            timer = TimerFired(
                saga_id=stream, timer="review" if flow.step == Step.REVIEW else "step", step=number
            )
            name = derived_id(stream, "timer", number)
            out.append(Due(name, flow.tenant, timer, flow.payment_id, flow.correlation or ""))
        for timer_entry in found:
            heapq.heappush(state.timers, timer_entry)
        return out

    def next_due(self, state: State) -> int | None:
        first = _first(state)
        return None if first is None else first[0]

    # ------------------------------------------------------------------ snapshots

    def dump(self, state: State) -> bytes:
        flows = []
        for stream, flow in sorted(state.flows.items()):
            # Amounts may exceed 64 bits, which orjson does not write.
            flows.append([stream, state.versions[stream], {**flow.to_dict(), "amount": str(flow.amount)}])
        return orjson.dumps({"clock_us": state.clock_us, "flows": flows}, option=orjson.OPT_SORT_KEYS)

    def load(self, data: bytes) -> State:
        raw = orjson.loads(data)
        state = State(clock_us=raw["clock_us"])
        for stream, version, flow in raw["flows"]:
            state.put(stream, flow_from_dict({**flow, "amount": int(flow["amount"])}))
            state.versions[stream] = version
        return state

    def check(self, state: State) -> None:
        for stream, flow in state.flows.items():
            if flow.deadline_us is None or stream not in state.versions:
                raise InvariantViolationError(f"saga {stream} waits for ever")


def _stream(event: ObserveEvent, state: State) -> str:
    """Which flow of the saga an event is about."""
    d = event.data
    match event.event_type:
        case "payments.refund-requested.v1" | "payments.refund-settled.v1" | "payments.refund-failed.v1":
            return str(d["refund_id"])
        case "ledger.transaction-posted.v1":
            reference = d.get("reference") or ""
            if reference.startswith(REFUND_REFERENCE):
                return str(reference.removeprefix(REFUND_REFERENCE))
        case "ledger.command-refused.v1" | "payments.command-refused.v1":
            return state.refund_of.get(d["command_id"], event.saga_id)
    return event.saga_id


def _first(state: State) -> tuple[int, str, int] | None:
    """The earliest deadline that still stands; those of steps long past are dropped on the way."""
    timers = state.timers
    while timers:
        _, stream, number = timers[0]
        flow = state.flows.get(stream)
        if flow is not None and flow.number == number:
            return timers[0]
        heapq.heappop(timers)
    return None
