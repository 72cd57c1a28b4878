"""What a transaction is made of, as a command asks for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.common.base import Amount, Code, Contract, Currency, Id, Metadata, Micros, SignedAmount, Text
from schemas.ledger.terms import Side


class BalanceCondition(Contract):
    """The entry's account must satisfy this *before* the transaction; measured on the account's normal side.

    In a batch, before means after the transactions that precede it.
    """

    balance: Literal["posted", "available"] = "available"
    at_least: SignedAmount | None = None
    at_most: SignedAmount | None = None


class EntryInput(Contract):
    """One leg. ``amount`` is in minor units of ``currency``, which must be the account's."""

    account_id: Id
    side: Side
    amount: Amount
    currency: Currency
    condition: BalanceCondition | None = None


class TransactionInput(Contract):
    """Legs that balance: for each currency, debits equal credits."""

    entries: Annotated[list[EntryInput], Field(min_length=2, max_length=500)]
    effective_at: Micros | None = Field(
        default=None, description="When it counts; defaults to the time it is recorded."
    )
    reference: Code | None = None
    description: Text = ""
    metadata: Metadata = Field(default_factory=dict)
