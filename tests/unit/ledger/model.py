"""The ledger again, written as plainly as can be: what every decision must come to.

It shares nothing with ``services.ledger``. Balances are sums over all entries, reservations sums over all holds,
made anew for each question; amounts stand on the normal side throughout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from schemas.common.base import MAX_AMOUNT, Command
from schemas.common.money import EXPONENTS
from schemas.ledger import commands as c
from schemas.ledger import transactions as tx

Leg = tuple[str, str, int, str]  # account, side, amount, currency


@dataclass
class AccountFact:
    """An account as it was asked for."""

    ledger: str
    code: str
    currency: str
    side: str
    floor: int | None
    ceiling: int | None
    metadata: dict[str, str]
    closed: bool = False


@dataclass
class HoldFact:
    """A hold and what became of it. ``end`` is empty while it is open."""

    ledger: str
    debit: str
    credit: str
    amount: int
    expires_at: int | None
    saga_id: str
    posted: int = 0
    end: str = ""

    @property
    def remaining(self) -> int:
        """What is still reserved."""
        return 0 if self.end else self.amount - self.posted


@dataclass
class TransactionFact:
    """Legs that were posted."""

    ledger: str
    legs: list[Leg]
    saga_id: str
    reversed: bool = False


@dataclass
class Model:
    """All that was accepted."""

    tenants: dict[str, str] = field(default_factory=dict)  # ledger -> tenant
    accounts: dict[str, AccountFact] = field(default_factory=dict)
    holds: dict[str, HoldFact] = field(default_factory=dict)
    transactions: dict[str, TransactionFact] = field(default_factory=dict)

    # --- questions

    def posted(self, account_id: str, more: Iterable[Leg] = ()) -> int:
        """Posted balance on the normal side, as if ``more`` had been posted too."""
        normal = self.accounts[account_id].side
        legs = [leg for t in self.transactions.values() for leg in t.legs] + list(more)
        return sum(
            amount if side == normal else -amount
            for account, side, amount, _ in legs
            if account == account_id
        )

    def leaving(self, account_id: str) -> int:
        """What open holds would take from the normal side."""
        is_debit = self.accounts[account_id].side == "debit"
        return sum(
            h.remaining for h in self.holds.values() if account_id == (h.credit if is_debit else h.debit)
        )

    def coming(self, account_id: str) -> int:
        """What open holds would bring to the normal side."""
        is_debit = self.accounts[account_id].side == "debit"
        return sum(
            h.remaining for h in self.holds.values() if account_id == (h.debit if is_debit else h.credit)
        )

    def outside(self, account_id: str, low: int, high: int) -> set[str]:
        """Why an account may not go as low as ``low`` or as high as ``high``."""
        account, reasons = self.accounts[account_id], set()
        if account.floor is not None and low < account.floor:
            reasons.add("insufficient-funds")
        if account.ceiling is not None and high > account.ceiling:
            reasons.add("ceiling-exceeded")
        if low < -MAX_AMOUNT or high > MAX_AMOUNT:
            reasons.add("amount-overflow")
        return reasons

    def missing(self, ledger: str, account_id: str) -> set[str]:
        """Why the ledger has no such open account."""
        account = self.accounts.get(account_id)
        if account is None or account.ledger != ledger:
            return {"account-not-found"}
        return {"account-closed"} if account.closed else set()

    # --- what must be refused

    def reasons(self, command: Command, *, tenant: str, now_us: int, saga_id: str, timer: bool) -> set[str]:
        """All reasons for which ``command`` may be refused; it must be accepted when there is none."""
        ledger = getattr(command, "ledger_id", None)
        if ledger is not None and self.tenants.get(ledger) != tenant:
            return {"ledger-not-found"}
        return _REFUSED[type(command)](self, command, now_us, saga_id, timer)

    def _open(self, x: c.OpenAccount, *_: Any) -> set[str]:
        reasons = set()
        if x.currency not in EXPONENTS:
            reasons.add("unknown-currency")
        if any(a.ledger == x.ledger_id and a.code == x.code for a in self.accounts.values()):
            reasons.add("code-taken")
        return reasons | _limits(0, 0, x.floor, x.ceiling)

    def _transaction(self, ledger: str, x: tx.TransactionInput, before: list[Leg]) -> set[str]:
        return self._shape(ledger, legs(x)) or (
            self._conditions(x, before) | self._beyond_limits(legs(x), before)
        )

    def _shape(self, ledger: str, new: list[Leg]) -> set[str]:
        reasons = set()
        sums: Counter[str] = Counter()
        for account, side, amount, currency in new:
            reasons |= self.missing(ledger, account)
            if account in self.accounts and self.accounts[account].currency != currency:
                reasons.add("currency-mismatch")
            sums[currency] += amount if side == "debit" else -amount
        if any(sums.values()):
            reasons.add("unbalanced")
        return reasons

    def _conditions(self, x: tx.TransactionInput, before: list[Leg]) -> set[str]:
        for entry in x.entries:
            if entry.condition is None:
                continue
            balance = self.posted(entry.account_id, before)
            if entry.condition.balance == "available":
                balance -= self.leaving(entry.account_id)
            least, most = entry.condition.at_least, entry.condition.at_most
            if (least is not None and balance < least) or (most is not None and balance > most):
                return {"condition-not-met"}
        return set()

    def _beyond_limits(self, new: list[Leg], before: list[Leg]) -> set[str]:
        reasons = set()
        for account in {leg[0] for leg in new}:
            balance = self.posted(account, before + new)
            reasons |= self.outside(account, balance - self.leaving(account), balance + self.coming(account))
        return reasons

    def _post(self, x: c.PostTransaction, *_: Any) -> set[str]:
        return self._transaction(x.ledger_id, x.transaction, [])

    def _batch(self, x: c.PostBatch, *_: Any) -> set[str]:
        before: list[Leg] = []
        for transaction in x.transactions:
            reasons = self._transaction(x.ledger_id, transaction, before)
            if reasons:
                return reasons
            before += legs(transaction)
        return set()

    def _reverse(self, x: c.ReverseTransaction, _: int, saga_id: str, __: bool) -> set[str]:
        original = self.transactions.get(x.transaction_id)
        if original is None or original.ledger != x.ledger_id:
            return {"transaction-not-found"}
        reasons = {"already-reversed"} if original.reversed else set()
        if original.saga_id and original.saga_id != saga_id:
            reasons.add("saga-only")
        back = mirror(original.legs)
        return reasons or self._shape(x.ledger_id, back) or self._beyond_limits(back, [])

    def _place(self, x: c.PlaceHold, now_us: int, *_: Any) -> set[str]:
        reasons = self.missing(x.ledger_id, x.debit_account_id) | self.missing(
            x.ledger_id, x.credit_account_id
        )
        if x.debit_account_id == x.credit_account_id:
            reasons.add("same-account")
        if x.expires_at is not None and x.expires_at <= now_us:
            reasons.add("expires-in-the-past")
        for account_id in (x.debit_account_id, x.credit_account_id):
            account = self.accounts.get(account_id)
            if account is not None and account.currency != x.currency:
                reasons.add("currency-mismatch")
        if reasons:
            return reasons
        for account_id, side in ((x.debit_account_id, "debit"), (x.credit_account_id, "credit")):
            balance, raises = self.posted(account_id), self.accounts[account_id].side == side
            low = balance - self.leaving(account_id) - (0 if raises else x.amount)
            high = balance + self.coming(account_id) + (x.amount if raises else 0)
            reasons |= self.outside(account_id, low, high)
        return reasons

    def _hold(self, ledger: str, hold_id: str) -> set[str]:
        hold = self.holds.get(hold_id)
        if hold is None or hold.ledger != ledger:
            return {"hold-not-found"}
        return {"hold-expired" if hold.end == "expired" else "hold-closed"} if hold.end else set()

    def _post_hold(self, x: c.PostHold, now_us: int, saga_id: str, _: bool) -> set[str]:
        reasons = self._hold(x.ledger_id, x.hold_id)
        if reasons:
            return reasons
        hold = self.holds[x.hold_id]
        if hold.saga_id and hold.saga_id != saga_id:
            reasons.add("saga-only")
        if hold.expires_at is not None and now_us >= hold.expires_at:
            reasons.add("hold-expired")
        if x.amount is not None and x.amount > hold.remaining:
            reasons.add("amount-exceeds-hold")
        return reasons

    def _void(self, x: c.VoidHold, _: int, saga_id: str, __: bool) -> set[str]:
        reasons = self._hold(x.ledger_id, x.hold_id)
        if not reasons and self.holds[x.hold_id].saga_id not in ("", saga_id):
            reasons.add("saga-only")
        return reasons

    def _expire(self, x: c.ExpireHold, now_us: int, _: str, timer: bool) -> set[str]:
        if not timer:
            return {"internal-command"}
        reasons = self._hold(x.ledger_id, x.hold_id)
        if not reasons:
            deadline = self.holds[x.hold_id].expires_at
            reasons = {"hold-not-due"} if deadline is None or deadline > now_us else set()
        return reasons

    def _set_metadata(self, x: c.SetAccountMetadata, *_: Any) -> set[str]:
        return self.missing(x.ledger_id, x.account_id)

    def _set_limits(self, x: c.SetAccountLimits, *_: Any) -> set[str]:
        reasons = self.missing(x.ledger_id, x.account_id)
        if reasons:
            return reasons
        balance = self.posted(x.account_id)
        low, high = balance - self.leaving(x.account_id), balance + self.coming(x.account_id)
        return _limits(low, high, x.floor, x.ceiling)

    def _close(self, x: c.CloseAccount, *_: Any) -> set[str]:
        reasons = self.missing(x.ledger_id, x.account_id)
        if reasons:
            return reasons
        if self.posted(x.account_id):
            reasons.add("account-not-empty")
        if any(not h.end and x.account_id in (h.debit, h.credit) for h in self.holds.values()):
            reasons.add("account-has-holds")
        return reasons

    # --- what an acceptance does

    def accept(self, command: Command, result: dict[str, Any], *, tenant: str, saga_id: str) -> None:
        """Take in an accepted command and the ids that it made."""
        match command:
            case c.CreateLedger():
                self.tenants[result["ledger_id"]] = tenant
            case c.OpenAccount() as x:
                self.accounts[result["account_id"]] = AccountFact(
                    x.ledger_id, x.code, x.currency, x.normal_side, x.floor, x.ceiling, dict(x.metadata)
                )
            case c.PostTransaction() as x:
                self._record(x.ledger_id, result["transaction_id"], legs(x.transaction), saga_id)
            case c.PostBatch() as x:
                for identifier, transaction in zip(result["transaction_ids"], x.transactions, strict=True):
                    self._record(x.ledger_id, identifier, legs(transaction), saga_id)
            case c.ReverseTransaction() as x:
                original = self.transactions[x.transaction_id]
                original.reversed = True
                self._record(x.ledger_id, result["transaction_id"], mirror(original.legs), saga_id)
            case c.PlaceHold() as x:
                self.holds[result["hold_id"]] = HoldFact(
                    x.ledger_id, x.debit_account_id, x.credit_account_id, x.amount, x.expires_at, saga_id
                )
            case c.PostHold() as x:
                hold = self.holds[x.hold_id]
                amount = hold.remaining if x.amount is None else x.amount
                currency = self.accounts[hold.debit].currency
                moved = [(hold.debit, "debit", amount, currency), (hold.credit, "credit", amount, currency)]
                self._record(x.ledger_id, result["transaction_id"], moved, saga_id)
                hold.posted += amount
                if x.final or hold.posted == hold.amount:
                    hold.end = "posted"
            case c.VoidHold() as x:
                self.holds[x.hold_id].end = "voided"
            case c.ExpireHold() as x:
                self.holds[x.hold_id].end = "expired"
            case c.SetAccountMetadata() as x:
                merged = self.accounts[x.account_id].metadata | x.metadata
                self.accounts[x.account_id].metadata = {k: v for k, v in merged.items() if v}
            case c.SetAccountLimits() as x:
                self.accounts[x.account_id].floor = x.floor
                self.accounts[x.account_id].ceiling = x.ceiling
            case c.CloseAccount() as x:
                self.accounts[x.account_id].closed = True

    def _record(self, ledger: str, identifier: str, new: list[Leg], saga_id: str) -> None:
        assert identifier not in self.transactions
        self.transactions[identifier] = TransactionFact(ledger, new, saga_id)


def legs(transaction: tx.TransactionInput) -> list[Leg]:
    """The legs of a transaction as tuples."""
    return [(e.account_id, e.side, e.amount, e.currency) for e in transaction.entries]


def mirror(of: list[Leg]) -> list[Leg]:
    """The same with sides swapped."""
    return [(a, "credit" if side == "debit" else "debit", n, currency) for a, side, n, currency in of]


def _limits(low: int, high: int, floor: int | None, ceiling: int | None) -> set[str]:
    reasons = set()
    if floor is not None and ceiling is not None and floor > ceiling:
        reasons.add("floor-above-ceiling")
    if (floor is not None and low < floor) or (ceiling is not None and high > ceiling):
        reasons.add("balance-outside-limits")
    return reasons


_REFUSED: dict[type[Command], Callable[..., set[str]]] = {
    c.CreateLedger: lambda *_: set(),
    c.OpenAccount: Model._open,
    c.PostTransaction: Model._post,
    c.PostBatch: Model._batch,
    c.ReverseTransaction: Model._reverse,
    c.PlaceHold: Model._place,
    c.PostHold: Model._post_hold,
    c.VoidHold: Model._void,
    c.ExpireHold: Model._expire,
    c.SetAccountMetadata: Model._set_metadata,
    c.SetAccountLimits: Model._set_limits,
    c.CloseAccount: Model._close,
}
