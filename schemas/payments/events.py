"""Events of the payment service. One stream per payment."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schemas.common.base import Event, Metadata
from schemas.payments.commands import Party


class PaymentInitiated(Event):
    """The payment exists and its saga begins."""

    TYPE: ClassVar[str] = "payments.payment-initiated.v1"

    payment_id: str
    ledger_id: str
    payer: Party
    payee: Party
    amount: int
    currency: str
    external_reference: str | None = None
    description: str = ""
    metadata: Metadata = Field(default_factory=dict)


class PaymentScored(Event):
    """The fraud score is known."""

    TYPE: ClassVar[str] = "payments.payment-scored.v1"

    payment_id: str
    score_bp: int
    decision: Literal["allow", "deny"]


class PaymentScreened(Event):
    """Screening has an outcome; after ``review`` come ``released`` or ``blocked``."""

    TYPE: ClassVar[str] = "payments.payment-screened.v1"

    payment_id: str
    outcome: Literal["clear", "review", "released", "blocked"]
    case_id: str | None = None


class PaymentHeld(Event):
    """The payer's money is reserved."""

    TYPE: ClassVar[str] = "payments.payment-held.v1"

    payment_id: str
    hold_id: str


class PaymentPosted(Event):
    """The money moved in the ledger."""

    TYPE: ClassVar[str] = "payments.payment-posted.v1"

    payment_id: str
    transaction_id: str


class PaymentSettled(Event):
    """Terminal: the payee has the money."""

    TYPE: ClassVar[str] = "payments.payment-settled.v1"

    payment_id: str
    rail: str


class CancellationRequested(Event):
    """A caller wants it stopped; the saga releases the hold and then ends the payment."""

    TYPE: ClassVar[str] = "payments.cancellation-requested.v1"

    payment_id: str
    reason: str = ""


class PaymentFailed(Event):
    """Terminal: no money moved and no hold is left. ``reason`` is a stable code."""

    TYPE: ClassVar[str] = "payments.payment-failed.v1"

    payment_id: str
    outcome: Literal["rejected", "cancelled", "failed"]
    reason: str
    detail: str = ""


class RefundRequested(Event):
    """A refund is reserved against what was captured; the saga moves the money.

    It says all about the payment that a refund depends on, since a closed payment has left memory.
    """

    TYPE: ClassVar[str] = "payments.refund-requested.v1"

    payment_id: str
    refund_id: str
    amount: int
    currency: str
    ledger_id: str
    payer_account_id: str
    payee_account_id: str
    captured: int = Field(description="What the payment moved.")
    refunded: int = Field(description="What earlier refunds have given back.")
    reserved: int = Field(description="What other refunds in flight will give back.")
    reason: str = ""


class RefundSettled(Event):
    """The payer has the money back."""

    TYPE: ClassVar[str] = "payments.refund-settled.v1"

    payment_id: str
    refund_id: str
    transaction_id: str
    amount: int


class RefundFailed(Event):
    """The ledger refused the refund; its amount can be refunded again."""

    TYPE: ClassVar[str] = "payments.refund-failed.v1"

    payment_id: str
    refund_id: str
    amount: int
    reason: str


EVENTS: dict[str, type[Event]] = {
    e.TYPE: e
    for e in (
        PaymentInitiated,
        PaymentScored,
        PaymentScreened,
        PaymentHeld,
        PaymentPosted,
        PaymentSettled,
        CancellationRequested,
        PaymentFailed,
        RefundRequested,
        RefundSettled,
        RefundFailed,
    )
}
