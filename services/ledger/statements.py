"""Balance sheet and income statement: sums over a chart of accounts, in each currency and in one.

What goes in is a :class:`Net` for each node and currency, debits minus credits of the accounts that belong to the
node. In a ledger they sum to zero in each currency, and that is all that makes the statements agree:
assets = liabilities + equity + the result so far. Accounts without a place in the chart are shown on the side of the
assets, so that nothing is left out.

Converted, every amount is rounded by itself and every sum is the sum of what is shown. What rounding leaves between
the two sides of the sheet is a line of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from schemas.ledger.chart import AdoptedNode
from schemas.ledger.terms import SEPARATOR, AccountType
from services.ledger.chart import nearest
from services.ledger.conversion import Rate

#: Type -> name of its section.
SECTIONS: Final[dict[AccountType, str]] = {
    "asset": "assets",
    "liability": "liabilities",
    "equity": "equity",
    "income": "income",
    "expense": "expenses",
}
_SHEET: Final[tuple[AccountType, ...]] = ("asset", "liability", "equity")
_RESULT: Final[tuple[AccountType, ...]] = ("income", "expense")


class Net(NamedTuple):
    """Debits minus credits, in minor units of ``currency``, of the accounts of a node (``None``: of no node)."""

    node: str | None
    currency: str
    amount: int


class MissingRateError(LookupError):
    """An amount is in a currency that no rate was given for. The argument is the currency."""


@dataclass(frozen=True)
class Statements:
    """Statements over ``nodes`` (a chart, sorted by code; empty without one)."""

    nodes: Sequence[AdoptedNode]

    def balance_sheet(self, nets: Iterable[Net]) -> list[dict[str, Any]]:
        """A sheet for each currency, in order of the currencies."""
        return [
            {"currency": currency, **self._sheet(amounts)} for currency, amounts in _by_currency(nets).items()
        ]

    def income_statement(self, nets: Iterable[Net]) -> list[dict[str, Any]]:
        """Income, expenses and result for each currency, of what moved in a period."""
        return [
            {"currency": currency, **self._income(amounts)}
            for currency, amounts in _by_currency(nets).items()
        ]

    def converted_sheet(self, nets: Iterable[Net], into: str, rates: Mapping[str, Rate]) -> dict[str, Any]:
        """One sheet in currency ``into``."""
        return {"currency": into, **self._sheet(_amounts(convert(nets, into, rates)))}

    def converted_income(self, nets: Iterable[Net], into: str, rates: Mapping[str, Rate]) -> dict[str, Any]:
        """One income statement in currency ``into``."""
        return {"currency": into, **self._income(_amounts(convert(nets, into, rates)))}

    def open_positions(self, nets: Iterable[Net]) -> list[dict[str, Any]]:
        """Assets less liabilities in each currency: what a change of its worth would touch."""
        return [
            {"currency": currency, **self._position(amounts)}
            for currency, amounts in _by_currency(nets).items()
        ]

    def exposure(self, nets: Iterable[Net], into: str, rates: Mapping[str, Rate]) -> dict[str, Any]:
        """The open positions at their worth in ``into``. ``share_bp`` are parts in 10,000 of all in other currencies."""
        worth = {
            each["currency"]: sum(
                net.amount for net in convert([Net(None, each["currency"], each["net"])], into, rates)
            )
            for each in self.open_positions(nets)
        }
        gross = sum(abs(value) for currency, value in worth.items() if currency != into)
        shares = {
            currency: abs(value) * 10_000 // gross if gross and currency != into else 0
            for currency, value in worth.items()
        }
        return {
            "currency": into,
            "positions": [
                {"currency": currency, "value": value, "share_bp": shares[currency]}
                for currency, value in worth.items()
            ],
            "gross": gross,
            "net": sum(value for currency, value in worth.items() if currency != into),
        }

    def _position(self, amounts: Mapping[str | None, int]) -> dict[str, Any]:
        sums = {
            SECTIONS[kind]: sum(amounts.get(node.code, 0) for node in self.nodes if node.type == kind)
            for kind in ("asset", "liability")
        }
        unplaced = amounts.get(None, 0)
        net = sum(sums.values()) + unplaced
        return {
            "assets": sums["assets"],
            "liabilities": -sums["liabilities"],
            "unclassified": unplaced,
            "net": net,
        }

    def _sheet(self, amounts: Mapping[str | None, int]) -> dict[str, Any]:
        sections = {SECTIONS[kind]: self._section(kind, amounts) for kind in _SHEET}
        unplaced = amounts.get(None, 0)
        result = self._result(amounts)
        owned = sections["assets"]["total"] + unplaced
        owed = sections["liabilities"]["total"] + sections["equity"]["total"] + result
        return {**sections, "unclassified": unplaced, "result": result, "rounding": owned - owed}

    def _income(self, amounts: Mapping[str | None, int]) -> dict[str, Any]:
        sections = {SECTIONS[kind]: self._section(kind, amounts) for kind in _RESULT}
        return {**sections, "result": self._result(amounts)}

    def _result(self, amounts: Mapping[str | None, int]) -> int:
        return -sum(amounts.get(node.code, 0) for node in self.nodes if node.type in _RESULT)

    def _section(self, kind: AccountType, amounts: Mapping[str | None, int]) -> dict[str, Any]:
        """The nodes of a type that have anything at or below them. Amounts count on the side of the type."""
        sign = 1 if kind in ("asset", "expense") else -1
        nodes = {node.code: node for node in self.nodes if node.type == kind}
        own = {code: sign * amounts[code] for code in nodes if code in amounts}
        totals: dict[str, int] = {}
        for code, amount in own.items():
            above: str | None = code
            while above is not None:
                totals[above] = totals.get(above, 0) + amount
                above = nearest(above.rpartition(SEPARATOR)[0], nodes)
        lines = [
            {"code": code, "name": nodes[code].name, "amount": own.get(code, 0), "total": totals[code]}
            for code in nodes
            if code in totals
        ]
        return {"total": sum(own.values()), "lines": lines}


def convert(nets: Iterable[Net], into: str, rates: Mapping[str, Rate]) -> list[Net]:
    """The same amounts in currency ``into``, each rounded half to even. :class:`MissingRateError` without a rate."""
    found = []
    for net in nets:
        if net.currency != into and net.amount:
            rate = rates.get(net.currency)
            if rate is None:
                raise MissingRateError(net.currency)
            found.append(Net(net.node, into, rate.convert(net.amount)))
        else:
            found.append(net._replace(currency=into))
    return found


def moved(before: Iterable[Net], after: Iterable[Net]) -> list[Net]:
    """What changed from one set of balances to another."""
    changes: dict[tuple[str | None, str], int] = {}
    for sign, nets in ((-1, before), (1, after)):
        for net in nets:
            key = net.node, net.currency
            changes[key] = changes.get(key, 0) + sign * net.amount
    return [Net(node, currency, amount) for (node, currency), amount in changes.items()]


def _amounts(nets: Iterable[Net]) -> dict[str | None, int]:
    amounts: dict[str | None, int] = {}
    for net in nets:
        amounts[net.node] = amounts.get(net.node, 0) + net.amount
    return amounts


def _by_currency(nets: Iterable[Net]) -> dict[str, dict[str | None, int]]:
    found: dict[str, list[Net]] = {}
    for net in nets:
        found.setdefault(net.currency, []).append(net)
    return {currency: _amounts(found[currency]) for currency in sorted(found)}
