"""What the writer of a ledger shard holds in memory: open accounts and open holds, and nothing that is over.

**Signs.** A balance is kept as *debits minus credits*, so the balances of a ledger sum to zero in each currency
and a posting does the same to every account. People and rules speak of the *normal side*: an account whose
normal side is credit (a customer's deposit) has the posted balance ``credits - debits``. ``floor`` and
``ceiling`` count on the normal side; ``low`` and ``high`` are the same limits as debits minus credits, with the
38-digit bound where there is no limit, so that one comparison serves both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from schemas.common.base import MAX_AMOUNT
from schemas.common.money import EXPONENTS
from schemas.ledger.events import Entry
from schemas.ledger.terms import Side
from services.ledger.chart import Chart

if TYPE_CHECKING:
    from services.ledger.program import Program


@dataclass(slots=True, eq=False)
class Account:
    """An open account. Amounts in minor units; ``version`` is that of its stream."""

    id: str
    code: str
    currency: str
    normal_side: Side
    metadata: dict[str, str]
    version: int = 1
    balance: int = 0  # debits minus credits of all posted entries
    pending_debits: int = 0  # what open holds would debit
    pending_credits: int = 0  # what open holds would credit
    open_holds: int = 0
    floor: int | None = None
    ceiling: int | None = None
    low: int = -MAX_AMOUNT
    high: int = MAX_AMOUNT
    may_debit: int = 0  # facings of the chart, as bits, in which it may be debited
    may_credit: int = 0  # and credited

    def limit(self, floor: int | None, ceiling: int | None) -> None:
        """Take these limits (normal side)."""
        self.floor, self.ceiling = floor, ceiling
        least = -MAX_AMOUNT if floor is None else floor
        most = MAX_AMOUNT if ceiling is None else ceiling
        self.low, self.high = self.normal(least, most)

    def normal(self, least: int, most: int) -> tuple[int, int]:
        """The range from ``least`` to ``most``, turned from debits minus credits to the normal side (or back)."""
        return (least, most) if self.normal_side == "debit" else (-most, -least)

    @property
    def posted(self) -> int:
        """Posted balance on the normal side."""
        return self.balance if self.normal_side == "debit" else -self.balance

    @property
    def reach(self) -> tuple[int, int]:
        """Lowest and highest balance that open holds can still make of it (normal side)."""
        return self.normal(self.balance - self.pending_credits, self.balance + self.pending_debits)

    @property
    def available(self) -> int:
        """Posted balance less what open holds would take; money that a hold may bring is never available."""
        return self.reach[0]


@dataclass(slots=True, eq=False)
class Hold:
    """An open hold; ``remaining`` minor units are reserved on both accounts."""

    id: str
    debit: Account
    credit: Account
    expires_at: int | None
    reference: str | None
    saga_id: str
    version: int = 1
    remaining: int = 0

    def reserve(self, amount: int) -> None:
        """Begin: reserve ``amount`` on both accounts."""
        assert self.remaining == 0 < amount
        self.remaining = amount
        for account in (self.debit, self.credit):
            account.open_holds += 1
        self.debit.pending_debits += amount
        self.credit.pending_credits += amount

    def release(self, amount: int) -> None:
        """Reserve ``amount`` less; with nothing left the hold is over."""
        assert 0 < amount <= self.remaining
        self.remaining -= amount
        self.debit.pending_debits -= amount
        self.credit.pending_credits -= amount
        if not self.remaining:
            self.debit.open_holds -= 1
            self.credit.open_holds -= 1


class KnownRate(NamedTuple):
    """The newest rate that a ledger knows of two currencies."""

    rate_id: str
    numerator: int
    denominator: int
    source: str
    observed_at: int


@dataclass(slots=True, eq=False)
class Ledger:
    """A book of one tenant. Codes of closed accounts stay: a code is never given twice."""

    id: str
    tenant: str
    accounts: dict[str, Account] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)  # code -> account id
    closed: dict[str, str] = field(default_factory=dict)  # id of a closed account -> its code
    version: int = 1  # of the ledger's own stream
    chart: Chart | None = None
    has_facings: bool = False  # the chart says who may face whom

    assets: dict[str, int] = field(default_factory=dict)  # code of a registered asset -> its decimal places
    rates: dict[tuple[str, str], KnownRate] = field(default_factory=dict)  # (base, quote) -> newest

    templates: dict[str, Program] = field(default_factory=dict)  # name -> newest version, compiled
    soft_until: int = 0  # before it only adjustments count
    hard_until: int = 0  # before it nothing counts that is not there yet; never above the soft one

    def knows(self, currency: str) -> bool:
        """Whether there can be accounts in ``currency``."""
        return currency in EXPONENTS or currency in self.assets

    def places(self, currency: str) -> int:
        """Decimal places of a currency that it knows."""
        places = self.assets.get(currency)
        return EXPONENTS[currency] if places is None else places

    def take_rate(self, pair: tuple[str, str], rate: KnownRate) -> None:
        """Remember a rate, unless a newer one is known. Of two of the same time the last to arrive counts."""
        known = self.rates.get(pair)
        if known is None or known.observed_at <= rate.observed_at:
            self.rates[pair] = rate

    def take_chart(self, chart: Chart) -> None:
        """Go by this chart, and tell every account its part in it."""
        self.chart, self.has_facings = chart, bool(chart.facings)
        for account in self.accounts.values():
            account.may_debit, account.may_credit = chart.parts_of(account.code)


@dataclass(slots=True, eq=False)
class Original:
    """A posted transaction that may be reversed."""

    ledger_id: str
    entries: list[Entry]
    saga_id: str
    reversed_by: str | None = None


@dataclass(slots=True, eq=False)
class ClosedHold:
    """What is left of a hold that is over: enough to say why it can not be posted."""

    ledger_id: str
    expired: bool


@dataclass(slots=True, eq=False)
class State:
    """All ledgers of a shard. What stands below ``deadlines`` is derived or loaded, and never part of a snapshot."""

    ledgers: dict[str, Ledger] = field(default_factory=dict)
    #: Heap of (expires at, hold, ledger). A hold that closed early stays until it surfaces.
    deadlines: list[tuple[int, str, str]] = field(default_factory=list)
    #: Closed things that were loaded for a command that names them; bounded by ``recall.KEEP``.
    originals: dict[str, Original] = field(default_factory=dict)
    ended: dict[str, ClosedHold] = field(default_factory=dict)
    #: Holds in the heap that are no longer open; when they outnumber the others the heap is made anew.
    stale_deadlines: int = 0

    def add_deadline(self, ledger_id: str, hold: Hold) -> None:
        """Watch the deadline of ``hold``, if it has one."""
        if hold.expires_at is not None:
            heappush(self.deadlines, (hold.expires_at, hold.id, ledger_id))

    def drop_deadline(self, hold: Hold) -> None:
        """``hold`` is over. Its place in the heap is left to time, unless such places become the majority."""
        if hold.expires_at is None:
            return
        self.stale_deadlines += 1
        if self.stale_deadlines > 1_000 and self.stale_deadlines * 2 > len(self.deadlines):
            self.deadlines = [d for d in self.deadlines if d[1] in self.ledgers[d[2]].holds]
            heapify(self.deadlines)
            self.stale_deadlines = 0

    def first_deadline(self) -> tuple[int, Ledger, Hold] | None:
        """The earliest deadline of an open hold."""
        while self.deadlines:
            expires_at, hold_id, ledger_id = self.deadlines[0]
            ledger = self.ledgers[ledger_id]
            hold = ledger.holds.get(hold_id)
            if hold is not None:
                return expires_at, ledger, hold
            heappop(self.deadlines)
            self.stale_deadlines -= 1
        return None
