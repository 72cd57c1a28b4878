"""The AI service decides once about each payment: allow or deny, with all that is needed to say why.

The decision is an event with the model's name, version, hash and threshold, the feature snapshot and the reasons. A replay
reads it; nothing is ever scored again to learn what was decided, and :mod:`services.ai.replay` can score again
to show that it comes out the same.

A payment is scored once. A second request for it, under another command id, is refused as ``payment-already-scored``; other
tenants see ``payment-not-found``. What was scored, allowed or not, counts as an attempt in the features of
later payments; only what was allowed becomes a habit that amounts are measured by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import orjson

from events.begun import BegunStreams, made_us
from events.decider import Accepted, Context, Decider, Emit, EventMeta, InvariantViolationError, Rejected
from nexafi.ids import is_id, make_id
from schemas.ai.commands import COMMANDS, ScorePayment
from schemas.ai.events import EVENTS, PaymentScored, Reason
from schemas.common.base import Command, Event
from services.ai.features import Memory, Subject, features_of, take_in
from services.ai.port import Scorer
from services.ai.reasons import REASONS


@dataclass(slots=True)
class State:
    """``memory`` is what a snapshot has; ``scored`` only spares a look into the store."""

    shard: int
    memory: Memory = field(default_factory=Memory)
    scored: BegunStreams = field(default_factory=lambda: BegunStreams(from_first_event=True))


def score_id(payment_id: str, shard: int) -> str:
    """Id of a payment's score: it follows from the payment's, so there is one."""
    return make_id(made_us(payment_id), shard, payment_id, "score")


class AiDecider(Decider[State]):
    """Decides with ``scorer``. Without one it can replay, and a request to score is an error."""

    service: ClassVar[str] = "ai"
    state_version: ClassVar[int] = 1
    commands: ClassVar[Mapping[str, type[Command]]] = COMMANDS
    events: ClassVar[Mapping[str, type[Event]]] = EVENTS

    def __init__(self, scorer: Scorer | None = None) -> None:
        self.scorer = scorer

    def initial(self, shard: int) -> State:
        return State(shard)

    def decide(self, command: Command, state: State, ctx: Context) -> Accepted | Rejected:
        assert isinstance(command, ScorePayment), command
        if not is_id(command.payment_id):
            return Rejected("payment-id-invalid", REASONS["payment-id-invalid"], "/payment_id")
        identifier = score_id(command.payment_id, state.shard)
        if (tenant := state.scored.tenant_of(identifier)) is not None:
            reason = "payment-already-scored" if tenant == ctx.tenant else "payment-not-found"
            return Rejected(reason, REASONS[reason], "/payment_id")
        if self.scorer is None:
            raise InvariantViolationError("a payment can not be scored without a scorer")
        subject = _subject(command, ctx.tenant)
        features = features_of(state.memory, subject, ctx.now_us)
        score = self.scorer.score(features)
        decision = "deny" if score.denied else "allow"
        event = PaymentScored.trusted(
            {
                "score_id": identifier,
                "payment_id": command.payment_id,
                "payer_account_id": subject.payer,
                "payee_account_id": subject.payee,
                "device_id": subject.device,
                "amount": subject.amount,
                "currency": subject.currency,
                "score_bp": score.score_bp,
                "decision": decision,
                "threshold_bp": score.model.threshold_bp,
                "model": score.model.name,
                "model_version": score.model.version,
                "model_sha256": score.model.sha256,
                "features": features,
                "reasons": [
                    Reason.trusted({"code": code, "contribution_bp": bp}) for code, bp in score.reasons
                ],
            }
        )
        result = {"score_id": identifier, "decision": decision, "score_bp": score.score_bp}
        return Accepted([Emit(identifier, 1, event)], result)

    def evolve(self, state: State, event: Event, meta: EventMeta) -> State:
        assert isinstance(event, PaymentScored)
        state.scored.note(event.score_id, meta.time_us, meta.tenant)
        take_in(state.memory, _subject(event, meta.tenant), meta.time_us, allowed=event.decision == "allow")
        return state

    def needs(self, command: Command, state: State) -> Sequence[str]:
        if not isinstance(command, ScorePayment) or not is_id(command.payment_id):
            return ()
        stream = score_id(command.payment_id, state.shard)
        return () if state.scored.can_tell(stream, command.payment_id) else (stream,)

    def hydrate(self, state: State, stream: str, history: Sequence[tuple[Event, EventMeta]]) -> None:
        if history:
            state.scored.recall(stream, history[0][1].tenant)

    def dump(self, state: State) -> bytes:
        return orjson.dumps({"shard": state.shard, "memory": state.memory.rows()})

    def load(self, data: bytes) -> State:
        found = orjson.loads(data)
        return State(found["shard"], Memory.read(found["memory"]), BegunStreams(from_first_event=False))


def _subject(of: ScorePayment | PaymentScored, tenant: str) -> Subject:
    return Subject(tenant, of.payer_account_id, of.payee_account_id, of.device_id, of.amount, of.currency)
