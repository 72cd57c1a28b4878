"""A balance in two times, straight from the events: the reference that every view of balances must agree with.

A posting has an *effective* time (when it counts) and a *recorded* time (when the ledger learned of it). "The
balance effective at D, as known at T" sums the entries with ``effective_at <= D`` that were recorded at or
before T, so a late posting changes what was true on its day without changing what was known then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from events.decider import EventMeta
from schemas.common.base import MAX_MICROS, Event
from schemas.ledger.events import TransactionPosted
from schemas.ledger.terms import Side


@dataclass(frozen=True, slots=True)
class BalanceAsOf:
    """Turnover of one account in minor units of its currency."""

    debits: int
    credits: int

    def posted(self, normal_side: Side) -> int:
        """Posted balance on the account's normal side."""
        balance = self.debits - self.credits
        return balance if normal_side == "debit" else -balance


def balance_as_of(
    history: Iterable[tuple[Event, EventMeta]],
    account_id: str,
    *,
    effective_at: int = MAX_MICROS,
    known_at: int = MAX_MICROS,
) -> BalanceAsOf:
    """The turnover of ``account_id`` effective at, and known at, these times (microseconds, both inclusive)."""
    debits = credits_ = 0
    for event, meta in history:
        if (
            not isinstance(event, TransactionPosted)
            or event.effective_at > effective_at
            or meta.time_us > known_at
        ):
            continue
        for entry in event.entries:
            if entry.account_id != account_id:
                continue
            if entry.side == "debit":
                debits += entry.amount
            else:
                credits_ += entry.amount
    return BalanceAsOf(debits, credits_)
