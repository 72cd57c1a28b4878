"""In which currency a report is to be shown, and at which rates: those that the caller states, or the ledger's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from nexafi.problems import ProblemError
from projections.queries.balances import Asked
from projections.queries.reading import Reader
from schemas.common.base import MAX_MICROS
from schemas.common.money import EXPONENTS
from services.ledger.conversion import Rate
from services.ledger.statements import MissingRateError, Net, convert

_RATE: Final = re.compile(r"([A-Z][A-Z0-9]{2,11}):([1-9]\d{0,17})/([1-9]\d{0,17})", re.ASCII)
_MAX_RATES: Final = 64
_NEWEST: Final = """
    SELECT DISTINCT ON (base, quote) base, quote, numerator, denominator, source, observed_at, rate_id
    FROM views.fx_rates
    WHERE ledger_id = CAST(:ledger_id AS uuid) AND tenant = :tenant AND position <= :position
      AND observed_at <= :at AND (base = :into OR quote = :into)
    ORDER BY base, quote, observed_at DESC, position DESC"""


@dataclass(frozen=True)
class Valuation:
    """How amounts become amounts of ``into`` (``None``: they stay as they are). ``shown`` says where rates are from."""

    into: str | None
    rates: Mapping[str, Rate] = field(default_factory=dict)
    shown: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def stated(self, convert_all: Callable[[str, Mapping[str, Rate]], dict[str, Any]]) -> dict[str, Any]:
        """``{"converted": ...}`` with the rates that were used, or nothing when nothing was asked for.

        The problem ``invalid-parameter`` when an amount is in a currency without a rate.
        """
        if self.into is None:
            return {}
        used = _Used(self.rates)
        try:
            converted = convert_all(self.into, used)
        except MissingRateError as missing:
            raise ProblemError(
                "invalid-parameter",
                f"There are amounts in {missing.args[0]}; a rate was neither stated nor recorded.",
                pointer="?rates",
            ) from None
        return {"converted": {**converted, "rates": {base: self.shown[base] for base in sorted(used.asked)}}}

    def totals(self, rows: Iterable[Mapping[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
        """The columns ``names`` of all currencies in one, as :meth:`stated`.

        Debits equal credits in each currency, so they still do after each was rounded.
        """

        def convert_all(into: str, rates: Mapping[str, Rate]) -> dict[str, Any]:
            sums = {}
            for name in names:
                nets = [Net(None, row["currency"], row[name]) for row in rows]
                sums[name] = sum(net.amount for net in convert(nets, into, rates))
            return {"currency": into, **sums}

        return self.stated(convert_all)


class _Used(dict[str, Rate]):
    """Rates that remember which of them were asked for."""

    def __init__(self, rates: Mapping[str, Rate]) -> None:
        super().__init__(rates)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        if key in self:
            self.asked.add(key)
        return super().get(key, default)


async def valuation(
    reader: Reader,
    query: Mapping[str, str],
    ledger_id: str,
    tenant: str,
    asked: Asked | None = None,
) -> Valuation:
    """``convert_to=EUR&rates=USD:9201/10000``: one major unit of USD is 0.9201 of EUR.

    Currencies that no rate is stated for take the newest recorded one, observed and known at the times asked for.
    """
    into = query.get("convert_to")
    if into is None:
        if "rates" in query:
            raise ProblemError("invalid-parameter", "Rates say nothing without convert_to.", pointer="?rates")
        return Valuation(None)
    at = MAX_MICROS if asked is None else asked.at_us
    position = 2**62 if asked is None else asked.position
    values = {"ledger_id": ledger_id, "tenant": tenant, "position": position}
    assets = await reader.rows(
        "SELECT code, places FROM views.registered_assets WHERE ledger_id = CAST(:ledger_id AS uuid) "
        "AND tenant = :tenant AND position <= :position",
        values,
    )
    known = EXPONENTS | {row["code"]: row["places"] for row in assets}
    if into not in known:
        raise ProblemError("invalid-parameter", "No currency or registered asset.", pointer="?convert_to")
    rates, shown = _recorded(await reader.rows(_NEWEST, {**values, "at": at, "into": into}), into, known)
    for base, numerator, denominator in _parsed(query.get("rates"), into, known):
        rates[base] = Rate.between(base, into, numerator, denominator, known.__getitem__)
        shown[base] = {"numerator": numerator, "denominator": denominator, "source": "stated"}
    return Valuation(into, rates, shown)


def _recorded(
    rows: Iterable[Mapping[str, Any]], into: str, known: Mapping[str, int]
) -> tuple[dict[str, Rate], dict[str, dict[str, Any]]]:
    """The newest of both directions for each currency; the direct one when both are as new."""
    newest: dict[str, tuple[str, bool, Mapping[str, Any]]] = {}
    for row in rows:
        inverse = row["base"] == into
        base = row["quote"] if inverse else row["base"]
        best = newest.get(base)
        key = (row["observed_at"], not inverse)
        if best is None or key > (best[2]["observed_at"], not best[1]):
            newest[base] = base, inverse, row
    rates, shown = {}, {}
    for base, inverse, row in newest.values():
        parts = row["numerator"], row["denominator"]
        numerator, denominator = reversed(parts) if inverse else parts
        rates[base] = Rate.between(base, into, numerator, denominator, known.__getitem__)
        shown[base] = {
            "numerator": numerator,
            "denominator": denominator,
            **{name: row[name] for name in ("source", "observed_at", "rate_id")},
        }
    return rates, shown


def _parsed(text: str | None, into: str, known: Mapping[str, int]) -> list[tuple[str, int, int]]:
    found: dict[str, tuple[str, int, int]] = {}
    parts = text.split(",") if text else []
    for part in parts:
        match = _RATE.fullmatch(part)
        if match is None or match[1] not in known or match[1] in (into, *found) or len(parts) > _MAX_RATES:
            raise ProblemError(
                "invalid-parameter",
                f"Up to {_MAX_RATES} rates like USD:9201/10000 with commas between, each currency once.",
                pointer="?rates",
            )
        found[match[1]] = match[1], int(match[2]), int(match[3])
    return list(found.values())
