"""Commands of the payment service. The shard is the payment's."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.common.base import Amount, Code, Command, Contract, Currency, Id, Metadata, Text


class Party(Contract):
    """Payer or payee: a ledger account and the name to screen. ``country`` is ISO 3166-1 alpha-2."""

    account_id: Id
    name: Annotated[str, Field(min_length=1, max_length=140)]
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = None
    device_id: Code | None = None


class InitiatePayment(Command):
    """Pay ``amount`` from payer to payee. Creating: its shard is chosen from the command id.

    ``external_reference`` is unique per tenant when given; a second payment with it is refused.
    """

    TYPE: ClassVar[str] = "payments.initiate-payment.v1"

    ledger_id: Id
    payer: Party
    payee: Party
    amount: Amount
    currency: Currency
    external_reference: Code | None = None
    description: Text = ""
    metadata: Metadata = Field(default_factory=dict)


class CancelPayment(Command):
    """Stop a payment that is not posted yet."""

    TYPE: ClassVar[str] = "payments.cancel-payment.v1"

    payment_id: Id
    reason: Text = ""


class RefundPayment(Command):
    """Give back a settled payment in full (``amount`` absent: all that is left) or in part."""

    TYPE: ClassVar[str] = "payments.refund-payment.v1"

    payment_id: Id
    amount: Amount | None = None
    reason: Text = ""


# --- what the payment saga tells the payment service


class RecordRisk(Command):
    """The fraud score that the payment was given (basis points, 0..10000) and its model."""

    TYPE: ClassVar[str] = "payments.record-risk.v1"

    payment_id: Id
    score_bp: int
    decision: Literal["allow", "deny"]


class RecordScreening(Command):
    """The outcome of sanctions screening; ``review`` parks the payment until an officer decides."""

    TYPE: ClassVar[str] = "payments.record-screening.v1"

    payment_id: Id
    outcome: Literal["clear", "review", "released", "blocked"]
    case_id: Id | None = None


class RecordHold(Command):
    """The ledger holds the money."""

    TYPE: ClassVar[str] = "payments.record-hold.v1"

    payment_id: Id
    hold_id: Id


class RecordPosted(Command):
    """The ledger has posted the hold: the money moved. From here the payment can not be cancelled."""

    TYPE: ClassVar[str] = "payments.record-posted.v1"

    payment_id: Id
    transaction_id: Id


class SettlePayment(Command):
    """The rail confirms settlement (the ``book`` rail settles when posted)."""

    TYPE: ClassVar[str] = "payments.settle-payment.v1"

    payment_id: Id
    rail: Code = "book"


class FailPayment(Command):
    """The saga ends the payment without moving money; no hold is left."""

    TYPE: ClassVar[str] = "payments.fail-payment.v1"

    payment_id: Id
    outcome: Literal["rejected", "cancelled", "failed"]
    reason: Code
    detail: Text = ""


class RecordRefund(Command):
    """The ledger has posted (or refused) a refund."""

    TYPE: ClassVar[str] = "payments.record-refund.v1"

    payment_id: Id
    refund_id: Id
    transaction_id: Id | None = None
    reason: Code | None = Field(default=None, description="Set when the ledger refused it.")


COMMANDS: dict[str, type[Command]] = {
    c.TYPE: c
    for c in (
        InitiatePayment,
        CancelPayment,
        RefundPayment,
        RecordRisk,
        RecordScreening,
        RecordHold,
        RecordPosted,
        SettlePayment,
        FailPayment,
        RecordRefund,
    )
}
