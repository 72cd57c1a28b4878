"""Events of the ledger service. Streams: a ledger, an account, a transaction, a hold."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from schemas.common.base import Contract, Event, Metadata
from schemas.ledger.chart import ChartAdopted
from schemas.ledger.currencies import AssetRegistered, CurrencyConverted, PositionsRevalued, RateRecorded
from schemas.ledger.periods import AdjustmentPosted, PeriodClosed, PeriodReopened
from schemas.ledger.templates import TemplateDefined
from schemas.ledger.terms import Side


class Entry(Contract):
    """One leg of a posted transaction; ``amount`` in minor units of ``currency``."""

    account_id: str
    side: Side
    amount: int
    currency: str


class LedgerCreated(Event):
    """Stream: the ledger."""

    TYPE: ClassVar[str] = "ledger.ledger-created.v1"

    ledger_id: str
    name: str
    metadata: Metadata = Field(default_factory=dict)


class AccountOpened(Event):
    """Stream: the account."""

    TYPE: ClassVar[str] = "ledger.account-opened.v1"

    ledger_id: str
    account_id: str
    code: str
    currency: str
    normal_side: Side
    name: str = ""
    floor: int | None = None
    ceiling: int | None = None
    metadata: Metadata = Field(default_factory=dict)


class TransactionPosted(Event):
    """Stream: the transaction. ``hold_id`` is set when a hold was posted, ``reverses`` when it mirrors another."""

    TYPE: ClassVar[str] = "ledger.transaction-posted.v1"

    ledger_id: str
    transaction_id: str
    entries: list[Entry]
    effective_at: int
    reference: str | None = None
    description: str = ""
    hold_id: str | None = None
    reverses: str | None = None
    metadata: Metadata = Field(default_factory=dict)


class TransactionReversed(Event):
    """Stream: the original transaction (version 2). The mirror is posted as a transaction of its own."""

    TYPE: ClassVar[str] = "ledger.transaction-reversed.v1"

    ledger_id: str
    transaction_id: str
    reversed_by: str


class HoldPlaced(Event):
    """Stream: the hold."""

    TYPE: ClassVar[str] = "ledger.hold-placed.v1"

    ledger_id: str
    hold_id: str
    debit_account_id: str
    credit_account_id: str
    amount: int
    currency: str
    expires_at: int | None = None
    reference: str | None = None
    metadata: Metadata = Field(default_factory=dict)


class HoldPosted(Event):
    """Stream: the hold. ``remaining`` still reserved afterwards; 0 closes the hold, ``released`` was freed by ``final``."""

    TYPE: ClassVar[str] = "ledger.hold-posted.v1"

    ledger_id: str
    hold_id: str
    transaction_id: str
    amount: int
    remaining: int
    released: int = 0


class HoldVoided(Event):
    """Stream: the hold. ``released`` was freed."""

    TYPE: ClassVar[str] = "ledger.hold-voided.v1"

    ledger_id: str
    hold_id: str
    released: int
    reason: str = ""


class HoldExpired(Event):
    """Stream: the hold. ``released`` was freed."""

    TYPE: ClassVar[str] = "ledger.hold-expired.v1"

    ledger_id: str
    hold_id: str
    released: int


class AccountMetadataSet(Event):
    """Stream: the account. The whole metadata afterwards."""

    TYPE: ClassVar[str] = "ledger.account-metadata-set.v1"

    ledger_id: str
    account_id: str
    metadata: Metadata


class AccountLimitsSet(Event):
    """Stream: the account."""

    TYPE: ClassVar[str] = "ledger.account-limits-set.v1"

    ledger_id: str
    account_id: str
    floor: int | None = None
    ceiling: int | None = None


class AccountClosed(Event):
    """Stream: the account."""

    TYPE: ClassVar[str] = "ledger.account-closed.v1"

    ledger_id: str
    account_id: str


EVENTS: dict[str, type[Event]] = {
    e.TYPE: e
    for e in (
        LedgerCreated,
        AccountOpened,
        TransactionPosted,
        TransactionReversed,
        HoldPlaced,
        HoldPosted,
        HoldVoided,
        HoldExpired,
        AccountMetadataSet,
        AccountLimitsSet,
        AccountClosed,
        ChartAdopted,
        AssetRegistered,
        RateRecorded,
        CurrencyConverted,
        PositionsRevalued,
        PeriodClosed,
        PeriodReopened,
        AdjustmentPosted,
        TemplateDefined,
    )
}
