"""Commands of the ledger service. The shard is the ledger's: all of a ledger's accounts share one writer."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.common.base import (
    Amount,
    Code,
    Command,
    Currency,
    Id,
    Metadata,
    Micros,
    Name,
    SignedAmount,
    Text,
)
from schemas.ledger.chart import AdoptChart
from schemas.ledger.currencies import Convert, RecordRate, RegisterAsset, Revalue
from schemas.ledger.periods import ClosePeriod, PostAdjustment, ReopenPeriod
from schemas.ledger.templates import ApplyTemplate, DefineTemplate
from schemas.ledger.terms import Side
from schemas.ledger.transactions import TransactionInput


class CreateLedger(Command):
    """Open a book. Creating: its shard is chosen from the command id."""

    TYPE: ClassVar[str] = "ledger.create-ledger.v1"

    name: Name
    metadata: Metadata = Field(default_factory=dict)


class OpenAccount(Command):
    """Open an account. Limits count on the normal side, in minor units; ``floor=0`` forbids overdraft.

    ``floor`` bounds the available balance (posted minus what holds reserve); ``ceiling`` bounds the posted
    balance plus what holds would still bring in.
    """

    TYPE: ClassVar[str] = "ledger.open-account.v1"

    ledger_id: Id
    code: Code
    currency: Currency
    normal_side: Side = "credit"
    name: Text = ""
    floor: SignedAmount | None = None
    ceiling: SignedAmount | None = None
    metadata: Metadata = Field(default_factory=dict)


class PostTransaction(Command):
    """Move money now."""

    TYPE: ClassVar[str] = "ledger.post-transaction.v1"

    ledger_id: Id
    transaction: TransactionInput


class PostBatch(Command):
    """Several transactions, all or nothing, each seeing the effect of those before it."""

    TYPE: ClassVar[str] = "ledger.post-batch.v1"

    ledger_id: Id
    transactions: Annotated[list[TransactionInput], Field(min_length=1, max_length=500)]


class ReverseTransaction(Command):
    """Append the mirror image of a posted transaction. A transaction is reversed at most once."""

    TYPE: ClassVar[str] = "ledger.reverse-transaction.v1"

    ledger_id: Id
    transaction_id: Id
    effective_at: Micros | None = None
    description: Text = ""


class PlaceHold(Command):
    """Reserve money between two accounts until posted, voided or expired."""

    TYPE: ClassVar[str] = "ledger.place-hold.v1"

    ledger_id: Id
    debit_account_id: Id
    credit_account_id: Id
    amount: Amount
    currency: Currency
    expires_at: Micros | None = None
    reference: Code | None = None
    metadata: Metadata = Field(default_factory=dict)


class PostHold(Command):
    """Post a hold in full (``amount`` absent) or in part; ``final`` releases what is left."""

    TYPE: ClassVar[str] = "ledger.post-hold.v1"

    ledger_id: Id
    hold_id: Id
    amount: Amount | None = None
    final: bool = True
    description: Text = ""


class VoidHold(Command):
    """Release what is left of a hold."""

    TYPE: ClassVar[str] = "ledger.void-hold.v1"

    ledger_id: Id
    hold_id: Id
    reason: Text = ""


class ExpireHold(Command):
    """Internal: a hold's deadline has passed. Issued by the writer's own timer only."""

    TYPE: ClassVar[str] = "ledger.expire-hold.v1"

    ledger_id: Id
    hold_id: Id


class SetAccountMetadata(Command):
    """Merge metadata; an empty value removes a key."""

    TYPE: ClassVar[str] = "ledger.set-account-metadata.v1"

    ledger_id: Id
    account_id: Id
    metadata: Metadata


class SetAccountLimits(Command):
    """Replace the floor and ceiling. Refused when the balance is already outside."""

    TYPE: ClassVar[str] = "ledger.set-account-limits.v1"

    ledger_id: Id
    account_id: Id
    floor: SignedAmount | None = None
    ceiling: SignedAmount | None = None


class CloseAccount(Command):
    """Close an account whose balance is zero and which has no open hold."""

    TYPE: ClassVar[str] = "ledger.close-account.v1"

    ledger_id: Id
    account_id: Id


COMMANDS: dict[str, type[Command]] = {
    c.TYPE: c
    for c in (
        CreateLedger,
        OpenAccount,
        PostTransaction,
        PostBatch,
        ReverseTransaction,
        PlaceHold,
        PostHold,
        VoidHold,
        ExpireHold,
        SetAccountMetadata,
        SetAccountLimits,
        CloseAccount,
        AdoptChart,
        RegisterAsset,
        RecordRate,
        Convert,
        Revalue,
        ClosePeriod,
        ReopenPeriod,
        PostAdjustment,
        DefineTemplate,
        ApplyTemplate,
    )
}
