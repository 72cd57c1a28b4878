"""The AI service decides once about each payment: its score, with everything needed to reproduce it.

The decision is an event with the model's name, version and hash, the feature snapshot and the reasons. A replay
reads it; nothing is ever scored again to learn what was decided.
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
from services.ai.features import Pasts, Window
from services.ai.port import Scorer
from services.ai.reasons import REASONS


@dataclass(slots=True)
class State:
    """The window is in a snapshot; ``scored`` only spares a look into the store."""

    shard: int
    window: Window = field(default_factory=Window)
    scored: BegunStreams = field(default_factory=lambda: BegunStreams(from_first_event=True))


def score_id(payment_id: str, shard: int) -> str:
    """Id of a payment's score: it follows from the payment's, so there is one."""
    return make_id(made_us(payment_id), shard, payment_id, "score")


class AiDecider(Decider[State]):
    """Decides with ``scorer``. Without one it can replay, and refuses to score."""

    service: ClassVar[str] = "ai"
    state_version: ClassVar[int] = 1
    commands: ClassVar[Mapping[str, type[Command]]] = COMMANDS
    events: ClassVar[Mapping[str, type[Event]]] = EVENTS

    def __init__(self, scorer: Scorer | None = None) -> None:
        self.scorer = scorer

    def initial(self, shard: int) -> State:
        return State(shard)

    def decide(self, command: Command, state: State, ctx: Context) -> Accepted | Rejected:
        assert isinstance(command, ScorePayment)
        if not is_id(command.payment_id):
            return Rejected("payment-id-invalid", REASONS["payment-id-invalid"], "/payment_id")
        identifier = score_id(command.payment_id, state.shard)
        if (tenant := state.scored.tenant_of(identifier)) is not None:
            reason = "payment-already-scored" if tenant == ctx.tenant else "payment-not-found"
            return Rejected(reason, REASONS[reason], "/payment_id")
        if self.scorer is None:
            raise InvariantViolationError("a payment can not be scored without a scorer")
        payer, payee = command.payer_account_id, command.payee_account_id
        features = state.window.features(payer, payee, command.device_id, command.amount, ctx.now_us)
        scorer, score = self.scorer, self.scorer.score(features)
        decision = "deny" if score.score_bp >= scorer.threshold_bp else "allow"
        event = PaymentScored.trusted(
            {
                "score_id": identifier,
                "payment_id": command.payment_id,
                "payer_account_id": payer,
                "payee_account_id": payee,
                "device_id": command.device_id,
                "amount": command.amount,
                "currency": command.currency,
                "score_bp": score.score_bp,
                "decision": decision,
                "threshold_bp": scorer.threshold_bp,
                "model": scorer.model,
                "model_version": scorer.version,
                "model_sha256": scorer.sha256,
                "features": features,
                "reasons": [Reason(code=code, contribution_bp=bp) for code, bp in score.reasons],
            }
        )
        result = {"score_id": identifier, "decision": decision, "score_bp": score.score_bp}
        return Accepted([Emit(identifier, 1, event)], result)

    def evolve(self, state: State, event: Event, meta: EventMeta) -> State:
        assert isinstance(event, PaymentScored)
        state.scored.note(event.score_id, meta.time_us, meta.tenant)
        state.window.note(
            event.payer_account_id, event.payee_account_id, event.device_id, event.amount, meta.time_us
        )
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
        w = state.window
        rows = [w.payers.rows(), w.devices.rows(), w.beneficiaries.rows()]
        return orjson.dumps({"shard": state.shard, "window": rows})

    def load(self, data: bytes) -> State:
        found = orjson.loads(data)
        payers, devices, beneficiaries = (Pasts.read(rows) for rows in found["window"])
        return State(
            found["shard"], Window(payers, devices, beneficiaries), BegunStreams(from_first_event=False)
        )
