"""What must be true of every ledger, whatever the rules say: the net under the rules.

:func:`check_appended` runs before every append and costs a fraction of a microsecond for each transaction;
:func:`check_state` runs after loading and adds up everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from events.decider import Emit, InvariantViolationError
from schemas.ledger.events import TransactionPosted
from services.ledger.state import Ledger, State


def check_appended(emits: Iterable[Emit]) -> None:
    """Each transaction sums to zero in each currency, so the sum over all accounts stays zero."""
    for emit in emits:
        event = emit.event
        if type(event) is not TransactionPosted:
            continue
        sums: dict[str, int] = {}
        for entry in event.entries:
            change = entry.amount if entry.side == "debit" else -entry.amount
            sums[entry.currency] = sums.get(entry.currency, 0) + change
        for currency, rest in sums.items():
            if rest:
                raise InvariantViolationError(
                    f"transaction {event.transaction_id}: {currency} does not sum to zero but to {rest}"
                )


def check_state(state: State) -> None:
    """Each currency of each ledger sums to zero, no account is outside its limits, reservations equal the holds."""
    for ledger in state.ledgers.values():
        _check_sums(ledger)
        _check_reservations(ledger)
        for account in ledger.accounts.values():
            least, most = account.balance - account.pending_credits, account.balance + account.pending_debits
            if not account.low <= least <= most <= account.high:
                raise InvariantViolationError(f"account {account.id} is outside its limits")


def _check_sums(ledger: Ledger) -> None:
    sums: Counter[str] = Counter()
    for account in ledger.accounts.values():
        sums[account.currency] += account.balance
    for currency, rest in sums.items():
        if rest:
            raise InvariantViolationError(
                f"ledger {ledger.id}: {currency} does not sum to zero but to {rest}"
            )


def _check_reservations(ledger: Ledger) -> None:
    debits: Counter[str] = Counter()
    credits_: Counter[str] = Counter()
    named: Counter[str] = Counter()
    for hold in ledger.holds.values():
        debits[hold.debit.id] += hold.remaining
        credits_[hold.credit.id] += hold.remaining
        named.update((hold.debit.id, hold.credit.id))
    for account in ledger.accounts.values():
        expected = (debits[account.id], credits_[account.id], named[account.id])
        if (account.pending_debits, account.pending_credits, account.open_holds) != expected:
            raise InvariantViolationError(f"account {account.id} reserves other amounts than its open holds")
