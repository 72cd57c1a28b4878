"""Events of the AI service. Stream: the score."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schemas.common.base import Contract, Event


class Reason(Contract):
    """A feature's contribution to the score, in basis points of log-odds; positive raises the risk."""

    code: str
    contribution_bp: int


class PaymentScored(Event):
    """The decision with all that is needed to reproduce it: model, hash, feature snapshot, reasons.

    ``features`` are integers in units named by the model card, so that the event carries no float.
    """

    TYPE: ClassVar[str] = "ai.payment-scored.v1"

    score_id: str
    payment_id: str
    payer_account_id: str
    payee_account_id: str
    device_id: str | None = None
    amount: int
    currency: str
    score_bp: int = Field(ge=0, le=10000)
    decision: Literal["allow", "deny"]
    threshold_bp: int
    model: str
    model_version: str
    model_sha256: str
    features: dict[str, int] = Field(default_factory=dict)
    reasons: list[Reason] = Field(default_factory=list)


EVENTS: dict[str, type[Event]] = {e.TYPE: e for e in (PaymentScored,)}
