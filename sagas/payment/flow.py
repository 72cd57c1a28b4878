"""What a saga knows: the state in its ``saga-stepped`` events.

A flow is a plain value. ``number`` counts its steps and names its timer; ``seen`` has the last position of
every store that it heard from, which becomes the consistency token when it ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Self


class Step(StrEnum):
    """Where a payment's saga stands: what it waits for."""

    CLEARING = "clearing"  # the fraud score and the screening
    REVIEW = "review"  # an officer
    HOLDING = "holding"  # the ledger's answer to place-hold
    POSTING = "posting"  # the ledger's answer to post-hold: from here a cancellation is too late
    VOIDING = "voiding"  # the ledger's answer to void-hold
    SETTLING = "settling"  # the payment to be settled
    FAILING = "failing"  # the payment to be ended without money, and the case to be withdrawn


class RefundStep(StrEnum):
    """Where a refund stands."""

    MOVING = "moving"  # the ledger's answer to post-transaction
    RECORDING = "recording"  # the payment to have recorded it


class Ending(NamedTuple):
    """How a payment will end without money: outcome, stable reason, detail."""

    outcome: str
    reason: str
    detail: str = ""


@dataclass(slots=True)
class _Flow:
    """What payments and refunds have in common."""

    kind: ClassVar[str]

    payment_id: str
    tenant: str
    ledger_id: str
    payer_account_id: str
    payee_account_id: str
    amount: int
    currency: str
    started_us: int
    number: int = 0
    attempts: int = 0
    deadline_us: int | None = None
    seen: dict[str, int] = field(default_factory=dict)
    #: Of the command that began it all: what a timer does belongs to that too. Sagas of 0.1.0 do not know theirs.
    correlation: str | None = None

    def copy(self) -> Self:
        """A copy that may be changed."""
        return replace(self, seen=dict(self.seen))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what is ``None`` is left out."""
        out: dict[str, Any] = {"kind": self.kind}
        for name in _NAMES[self.kind]:
            value = getattr(self, name)
            if value is not None:
                out[name] = value
        return out

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`; unknown members of newer writers are ignored."""
        names = _NAMES[cls.kind]
        return cls(**{k: v for k, v in data.items() if k in names})


@dataclass(slots=True)
class PaymentFlow(_Flow):
    """One payment on its way."""

    kind: ClassVar[str] = "payment"

    step: str = Step.CLEARING
    #: For asking again, until both answers are in: device of the payer, and the parties to screen.
    device_id: str | None = None
    subjects: list[dict[str, Any]] | None = None
    risk: str | None = None
    score_bp: int | None = None
    screening: str | None = None
    case_id: str | None = None
    case_open: bool = False
    hold_id: str | None = None
    hold_expires_us: int | None = None
    #: post-hold was sent: the money may have moved.
    committed: bool = False
    transaction_id: str | None = None
    ending: Ending | None = None
    #: The payment service has ended the payment.
    told: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what is ``None`` is left out."""
        out = super(PaymentFlow, self).to_dict()
        if self.ending is not None:
            out["ending"] = list(self.ending)
        return out

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`."""
        flow = super(PaymentFlow, cls).from_dict(data)
        if flow.ending is not None:
            flow.ending = Ending(*flow.ending)
        return flow


@dataclass(slots=True)
class RefundFlow(_Flow):
    """One refund on its way. Its stream is the refund's; commands and refusals carry the payment's id."""

    kind: ClassVar[str] = "refund"

    refund_id: str = ""
    step: str = RefundStep.MOVING
    transaction_id: str | None = None
    reason: str | None = None


Flow = PaymentFlow | RefundFlow
_NAMES: dict[str, dict[str, None]] = {
    flow.kind: {f.name: None for f in fields(flow)} for flow in (PaymentFlow, RefundFlow)
}


def flow_from_dict(data: dict[str, Any]) -> Flow:
    """The flow in a ``saga-stepped`` event."""
    return PaymentFlow.from_dict(data) if data["kind"] == PaymentFlow.kind else RefundFlow.from_dict(data)


def stream_of(flow: Flow) -> str:
    """The stream in the saga's store: the payment's id, or the refund's."""
    return flow.refund_id if isinstance(flow, RefundFlow) else flow.payment_id
