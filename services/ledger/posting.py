"""Weighing a transaction: whether it balances, meets its conditions and leaves every account within its limits.

Pointers are JSON Pointers; ``at`` is the pointer of the transaction within the command's data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from schemas.ledger.events import Entry, TransactionPosted
from schemas.ledger.transactions import BalanceCondition, EntryInput, TransactionInput
from services.ledger.charting import require_facing
from services.ledger.lookup import no_account, other_currency
from services.ledger.reasons import Refusal
from services.ledger.state import Account, Ledger

#: Change of each touched account, debits minus credits.
Changes = dict[Account, int]
_entry = Entry.maker()
_transaction = TransactionPosted.maker()


def weigh(
    ledger: Ledger,
    transaction: TransactionInput,
    moved: Mapping[Account, int],
    at: str,
    *,
    open_from: int | None = None,
) -> Changes:
    """What ``transaction`` changes, or :class:`Refusal`.

    It may count from ``open_from`` on; that is the end of what is closed, softly or hard, unless given.
    ``moved`` is what earlier transactions of the same batch have changed. An account that several entries
    name is judged by their sum: the entries of a transaction happen together.
    """
    if transaction.effective_at is not None:
        require_open(
            transaction.effective_at,
            ledger.soft_until if open_from is None else open_from,
            f"{at}/effective_at",
        )
    entries = transaction.entries
    changes = net_changes(ledger, entries, at)
    if ledger.has_facings:
        require_facing(ledger, entries, at)
    for index, entry in enumerate(entries):
        if entry.condition is not None:
            account = ledger.accounts[entry.account_id]
            _require(entry.condition, account, moved.get(account, 0), f"{at}/entries/{index}/condition")
    keep_limits(changes, moved, entries, at)
    return changes


def require_open(effective_at: int, open_from: int, pointer: str) -> None:
    """What is to count at a time must not count in a closed period. The present is never closed."""
    if effective_at < open_from:
        raise Refusal("period-closed", pointer)


def net_changes(ledger: Ledger, entries: Sequence[EntryInput | Entry], at: str) -> Changes:
    """The sum of the entries for each account; refuses unknown accounts, other currencies and lopsided sums."""
    accounts = ledger.accounts
    changes: Changes = {}
    sums: dict[str, int] = {}
    for index, entry in enumerate(entries):
        account = accounts.get(entry.account_id)
        if account is None:
            raise no_account(ledger, entry.account_id, f"{at}/entries/{index}/account_id")
        currency = entry.currency
        if currency != account.currency:
            raise other_currency(account, currency, f"{at}/entries/{index}/currency")
        change = entry.amount if entry.side == "debit" else -entry.amount
        sums[currency] = sums.get(currency, 0) + change
        changes[account] = changes.get(account, 0) + change
    for currency, rest in sums.items():
        if rest:
            more, less = ("debits", "credits") if rest > 0 else ("credits", "debits")
            raise Refusal(
                "unbalanced",
                f"{at}/entries",
                f"{more} exceed {less} by {abs(rest)} minor units of {currency}",
            )
    return changes


def keep_limits(
    changes: Changes, moved: Mapping[Account, int], entries: Sequence[EntryInput | Entry], at: str
) -> None:
    """Refuse ``changes`` that would take an account out of its limits, open holds counted at their worst."""
    for account, change in changes.items():
        balance = account.balance + change + moved.get(account, 0)
        least, most = balance - account.pending_credits, balance + account.pending_debits
        if most > account.high or least < account.low:
            side = "debit" if most > account.high else "credit"
            to_blame = (i for i, e in enumerate(entries) if e.account_id == account.id and e.side == side)
            raise out_of_limits(account, least, most, f"{at}/entries/{next(to_blame, 0)}")


def out_of_limits(account: Account, least: int, most: int, pointer: str) -> Refusal:
    """Which limit of ``account`` a balance between ``least`` and ``most`` (debits minus credits) breaks."""
    lowest, highest = account.normal(least, most)
    unit = f"minor units of {account.currency}"
    if account.floor is not None and lowest < account.floor:
        return Refusal(
            "insufficient-funds",
            pointer,
            f"available balance of account {account.id} would be {lowest} {unit}, its floor is {account.floor}",
        )
    if account.ceiling is not None and highest > account.ceiling:
        return Refusal(
            "ceiling-exceeded",
            pointer,
            f"balance of account {account.id} would be up to {highest} {unit}, its ceiling is {account.ceiling}",
        )
    return Refusal("amount-overflow", pointer)


def recorded(
    ledger_id: str, transaction_id: str, transaction: TransactionInput, now_us: int
) -> TransactionPosted:
    """The event of a weighed ``transaction``. Built unchecked: its values were validated as part of the command."""
    effective_at = transaction.effective_at
    return _transaction(
        {
            "ledger_id": ledger_id,
            "transaction_id": transaction_id,
            "entries": [
                _entry(
                    {"account_id": e.account_id, "side": e.side, "amount": e.amount, "currency": e.currency}
                )
                for e in transaction.entries
            ],
            "effective_at": now_us if effective_at is None else effective_at,
            "reference": transaction.reference,
            "description": transaction.description,
            "hold_id": None,
            "reverses": None,
            "metadata": transaction.metadata,
        }
    )


def mirrored(entries: Iterable[Entry]) -> list[Entry]:
    """The entries with their sides swapped."""
    return [
        Entry(
            account_id=e.account_id,
            side="credit" if e.side == "debit" else "debit",
            amount=e.amount,
            currency=e.currency,
        )
        for e in entries
    ]


def _require(condition: BalanceCondition, account: Account, moved: int, pointer: str) -> None:
    """The balance after ``moved`` (debits minus credits) must satisfy ``condition``."""
    balance = account.posted if condition.balance == "posted" else account.available
    balance += moved if account.normal_side == "debit" else -moved
    low, high = condition.at_least, condition.at_most
    if (low is not None and balance < low) or (high is not None and balance > high):
        raise Refusal(
            "condition-not-met",
            pointer,
            f"{condition.balance} balance of account {account.id} is {balance} minor units of {account.currency}",
        )
