"""A template made ready to run: checked once when it is defined, then one call for each application.

Every reference becomes a function of the :class:`Run` that it is evaluated in. A run has the balances as they are
and what its own flows have moved so far; it changes nothing and remembers legs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

from schemas.ledger.templates import AccountRef, AmountRef, Destination, Flow, Share, Source, Template
from schemas.ledger.terms import Side
from services.ledger.lookup import account_of, other_currency
from services.ledger.reasons import Refusal
from services.ledger.state import Account, Ledger


@dataclass(slots=True)
class Run:
    """One application. ``accounts`` and ``amounts`` are the variables; ``pointers`` say where a leg's account is named."""

    ledger: Ledger
    accounts: Mapping[str, str]
    amounts: Mapping[str, int]
    moved: dict[Account, int] = field(default_factory=dict)
    legs: list[tuple[Side, Account, int]] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)

    def available(self, account: Account) -> int:
        """Available balance on the normal side after what this run has moved."""
        moved = self.moved.get(account, 0)
        return account.available + (moved if account.normal_side == "debit" else -moved)

    def add(self, side: Side, account: Account, amount: int, pointer: str) -> None:
        """Remember a leg."""
        if amount:
            self.moved[account] = self.moved.get(account, 0) + (amount if side == "debit" else -amount)
            self.legs.append((side, account, amount))
            self.pointers.append(pointer)


Amount: TypeAlias = Callable[[Run], int]


@dataclass(frozen=True, slots=True)
class Place:
    """An account of a template: known when it was defined, or a variable."""

    account_id: str | None
    variable: str = ""

    def find(self, run: Run) -> Account:
        """The open account."""
        if self.account_id is not None:
            return account_of(run.ledger, self.account_id, self.pointer)
        return account_of(run.ledger, run.accounts[self.variable], self.pointer)

    @property
    def pointer(self) -> str:
        """Where the command that applies the template names it."""
        return "/name" if self.account_id is not None else f"/accounts/{self.variable}"


@dataclass(frozen=True, slots=True)
class _Giver:
    place: Place
    at_most: Amount | None
    keep: Amount | None
    unbounded: bool

    def capacity(self, run: Run, account: Account, planned: int) -> int | None:
        """What it can give beside ``planned``; ``None``: whatever is asked."""
        most = None if self.at_most is None else self.at_most(run)
        if self.unbounded or account.normal_side == "debit":
            return most
        kept = max(account.floor or 0, 0 if self.keep is None else self.keep(run), 0)
        has = max(run.available(account) - planned - kept, 0)
        return has if most is None else min(has, most)


@dataclass(frozen=True, slots=True)
class _Taker:
    place: Place | None
    share: tuple[int, int] | None
    at_most: Amount | None


@dataclass(frozen=True, slots=True)
class _Stream:
    amount: Amount
    givers: tuple[_Giver, ...]
    takers: tuple[_Taker, ...]
    partial: bool
    pointer: str

    def run(self, run: Run) -> None:
        """Add the legs of this flow."""
        currency = ""
        wanted = self.amount(run)
        gives: list[tuple[_Giver, Account, int]] = []
        planned: dict[Account, int] = {}
        left = wanted
        for giver in self.givers:
            account = giver.place.find(run)
            currency = _same(currency, account, giver.place)
            can = giver.capacity(run, account, planned.get(account, 0))
            part = left if can is None else min(left, can)
            planned[account] = planned.get(account, 0) + part
            gives.append((giver, account, part))
            left -= part
        if left and not self.partial:
            raise Refusal("sources-insufficient", self.pointer, f"{left} of {wanted} minor units are missing")
        parts = self._parts(run, wanted - left)
        to_draw = sum(part for taker, part in zip(self.takers, parts, strict=True) if taker.place)
        for giver, account, part in gives:
            drawn = min(part, to_draw)
            to_draw -= drawn
            run.add("debit", account, drawn, giver.place.pointer)
        for taker, part in zip(self.takers, parts, strict=True):
            if taker.place is not None:
                account = taker.place.find(run)
                currency = _same(currency, account, taker.place)
                run.add("credit", account, part, taker.place.pointer)

    def _parts(self, run: Run, total: int) -> list[int]:
        """What each destination takes; together ``total``."""
        parts = [0] * len(self.takers)
        rest = total
        for index, taker in enumerate(self.takers):
            if taker.share is not None:
                part = total * taker.share[0] // taker.share[1]
                parts[index] = part if taker.at_most is None else min(part, taker.at_most(run))
                rest -= parts[index]
        for index, taker in enumerate(self.takers[:-1]):
            if taker.share is None and taker.at_most is not None:
                parts[index] = min(rest, taker.at_most(run))
                rest -= parts[index]
        parts[-1] = rest
        return parts


def _same(currency: str, account: Account, place: Place) -> str:
    """A flow is in one currency."""
    if currency and account.currency != currency:
        raise other_currency(account, currency, place.pointer)
    return account.currency


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled template."""

    template: Template
    version: int
    streams: tuple[_Stream, ...]

    def run(self, run: Run) -> None:
        """Every flow in order."""
        for stream in self.streams:
            stream.run(run)


def compiled(template: Template, version: int, ledger: Ledger) -> Program:
    """The program of ``template``; :class:`Refusal` ``template-invalid`` when it means nothing."""
    return _Compiler(template, ledger).program(version)


class _Compiler:
    """Pointers lead into the data of the command that defines the template."""

    def __init__(self, template: Template, ledger: Ledger) -> None:
        self._template = template
        self._ledger = ledger
        self._used: set[str] = set()

    def program(self, version: int) -> Program:
        declared = [*self._template.accounts, *self._template.amounts]
        if len(set(declared)) != len(declared):
            raise _invalid("/template/accounts", "a variable is declared once")
        streams = tuple(
            self._stream(flow, f"/template/flows/{n}") for n, flow in enumerate(self._template.flows)
        )
        unused = sorted(set(declared) - self._used)
        if unused:
            raise _invalid("/template", f"{unused[0]} is declared and not used")
        return Program(self._template, version, streams)

    def _stream(self, flow: Flow, at: str) -> _Stream:
        takers = [self._taker(each, f"{at}/destinations/{n}") for n, each in enumerate(flow.destinations)]
        rest = [taker.share is None and taker.at_most is None for taker in takers]
        if not rest[-1] or any(rest[:-1]):
            raise _invalid(
                f"{at}/destinations", "the last destination, and no other, has neither share nor at_most"
            )
        if sum(Fraction(*taker.share) for taker in takers if taker.share is not None) > 1:
            raise _invalid(f"{at}/destinations", "the shares are more than the whole")
        givers = [self._giver(each, f"{at}/sources/{n}") for n, each in enumerate(flow.sources)]
        return _Stream(
            self._amount(flow.amount, f"{at}/amount"), tuple(givers), tuple(takers), flow.partial, "/amounts"
        )

    def _giver(self, source: Source, at: str) -> _Giver:
        return _Giver(
            self._place(source.account, f"{at}/account"),
            None if source.at_most is None else self._amount(source.at_most, f"{at}/at_most"),
            None if source.keep is None else self._amount(source.keep, f"{at}/keep"),
            source.unbounded,
        )

    def _taker(self, destination: Destination, at: str) -> _Taker:
        account, share, limit = destination.account, destination.share, destination.at_most
        return _Taker(
            None if account is None else self._place(account, f"{at}/account"),
            None if share is None else self._share(share, f"{at}/share"),
            None if limit is None else self._amount(limit, f"{at}/at_most"),
        )

    def _share(self, share: Share, at: str) -> tuple[int, int]:
        if share.numerator > share.denominator:
            raise _invalid(at, "a share is at most the whole")
        return share.numerator, share.denominator

    def _place(self, ref: AccountRef, at: str) -> Place:
        if (ref.code is None) == (ref.variable is None):
            raise _invalid(at, "an account has either a code or a variable")
        if ref.variable is not None:
            self._declared(ref.variable, self._template.accounts, f"{at}/variable")
            return Place(None, ref.variable)
        account_id = self._ledger.codes.get(ref.code or "")
        if account_id is None:
            raise Refusal("account-not-found", f"{at}/code")
        return Place(account_id)

    def _amount(self, ref: AmountRef, at: str) -> Amount:
        if (ref.fixed, ref.variable, ref.balance_of).count(None) != 2:
            raise _invalid(at, "an amount is one of fixed, variable and balance_of")
        whole = self._whole(ref, at)
        if ref.share is None:
            return whole
        numerator, denominator = self._share(ref.share, f"{at}/share")
        return lambda run: whole(run) * numerator // denominator

    def _whole(self, ref: AmountRef, at: str) -> Amount:
        if ref.fixed is not None:
            fixed = ref.fixed
            return lambda _: fixed
        if ref.variable is not None:
            variable = ref.variable
            self._declared(variable, self._template.amounts, f"{at}/variable")
            return lambda run: run.amounts[variable]
        assert ref.balance_of is not None
        place = self._place(ref.balance_of, f"{at}/balance_of")
        return lambda run: max(run.available(place.find(run)), 0)

    def _declared(self, variable: str, among: list[str], at: str) -> None:
        if variable not in among:
            raise _invalid(at, f"{variable} is not declared")
        self._used.add(variable)


def _invalid(pointer: str, why: str) -> Refusal:
    return Refusal("template-invalid", pointer, why)
