"""Balance sheet and income statement against sums that are made anew from every entry, and conversion in integers."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.common.money import exponent
from schemas.ledger.chart import AdoptedNode
from schemas.ledger.terms import NORMAL_SIDES, AccountType
from services.ledger.conversion import Rate, Rounding, divide
from services.ledger.statements import MissingRateError, Net, Statements, moved

_PREFIXES: dict[str, AccountType] = {
    "a": "asset",
    "l": "liability",
    "q": "equity",
    "i": "income",
    "x": "expense",
}
CODES = sorted([*_PREFIXES, "a:1", "a:1:2", "a:3", "l:1", "l:1:9", "i:1", "x:1:1"])
NODES = [
    AdoptedNode(code=c, type=_PREFIXES[c[0]], name=c.upper(), normal_side=NORMAL_SIDES[_PREFIXES[c[0]]])
    for c in CODES
]
CURRENCIES = ("EUR", "JPY", "USD")
RATES = {"JPY": Rate.between("JPY", "EUR", 61, 10_000), "USD": Rate.between("USD", "EUR", 9_201, 10_000)}


def journal(rng: Random, length: int) -> list[tuple[str | None, str, int]]:
    """Random balanced movements: (place, currency, debits minus credits), two by two."""
    found: list[tuple[str | None, str, int]] = []
    for _ in range(length):
        currency, amount = rng.choice(CURRENCIES), rng.randrange(1, 10**6)
        debit, credit = rng.choice([*CODES, None]), rng.choice([*CODES, None])
        found += [(debit, currency, amount), (credit, currency, -amount)]
    return found


def nets_of(entries: list[tuple[str | None, str, int]]) -> list[Net]:
    """Sums by place and currency."""
    keys = {(place, currency) for place, currency, _ in entries}
    return [Net(p, c, sum(n for q, d, n in entries if (q, d) == (p, c))) for p, c in sorted(keys, key=str)]


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 30))
def test_a_sheet_balances_and_every_line_is_the_sum_of_its_entries(rng: Random, length: int) -> None:
    entries = journal(rng, length)
    for sheet in Statements(NODES).balance_sheet(nets_of(entries)):
        mine = [(place, n) for place, currency, n in entries if currency == sheet["currency"]]
        for section, letter, sign in (("assets", "a", 1), ("liabilities", "l", -1), ("equity", "q", -1)):
            found = sheet[section]
            assert found["total"] == sign * sum(n for place, n in mine if place and place[0] == letter)
            for line in found["lines"]:
                code = line["code"]
                assert line["amount"] == sign * sum(n for place, n in mine if place == code)
                below = [n for place, n in mine if place and f"{place}:".startswith(f"{code}:")]
                assert line["total"] == sign * sum(below)
        assert sheet["unclassified"] == sum(n for place, n in mine if place is None)
        assert sheet["result"] == -sum(n for place, n in mine if place and place[0] in "ix")
        assert sheet["assets"]["total"] + sheet["unclassified"] == (
            sheet["liabilities"]["total"] + sheet["equity"]["total"] + sheet["result"]
        )
        assert sheet["rounding"] == 0


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 30))
def test_a_converted_sheet_rounds_each_line_and_says_what_rounding_left(rng: Random, length: int) -> None:
    entries = journal(rng, length)
    sheet = Statements(NODES).converted_sheet(nets_of(entries), "EUR", RATES)
    exact: dict[str | None, Fraction] = {}
    lines: dict[str | None, int] = {}
    for net in nets_of(entries):
        worth = Fraction(net.amount)
        if net.currency != "EUR":
            rate = RATES[net.currency]
            worth *= Fraction(rate.numerator, rate.denominator) * Fraction(
                10**2, 10 ** exponent(net.currency)
            )
        exact[net.node] = exact.get(net.node, Fraction(0)) + worth
        lines[net.node] = lines.get(net.node, 0) + round(worth)  # Python rounds a Fraction half to even
    assert sum(exact.values()) == 0
    assert sheet["assets"]["total"] == sum(n for code, n in lines.items() if code and code[0] == "a")
    assert sheet["rounding"] == sum(lines.values())
    assert abs(sheet["rounding"]) <= len(nets_of(entries))


def test_an_income_statement_is_what_moved_in_the_period() -> None:
    before = [Net("i", "EUR", -100), Net("x:1:1", "EUR", 30), Net("a", "EUR", 70)]
    after = [Net("i", "EUR", -180), Net("x:1:1", "EUR", 50), Net("a", "EUR", 130), Net("i", "USD", -7)]
    euro, dollar = Statements(NODES).income_statement(moved(before, after))
    assert (euro["income"]["total"], euro["expenses"]["total"], euro["result"]) == (80, 20, 60)
    assert [(line["code"], line["amount"], line["total"]) for line in euro["expenses"]["lines"]] == [
        ("x", 0, 20),
        ("x:1:1", 20, 20),
    ]
    assert (dollar["currency"], dollar["result"]) == ("USD", 7)
    one = Statements(NODES).converted_income(moved(before, after), "EUR", RATES)
    assert one["result"] == 60 + 6


def test_without_a_rate_nothing_is_converted() -> None:
    nets = [Net("a", "CHF", 5), Net("l", "CHF", -5)]
    with pytest.raises(MissingRateError, match="CHF"):
        Statements(NODES).converted_sheet(nets, "EUR", RATES)


def test_minor_units_follow_the_currency() -> None:
    assert Rate.between("USD", "JPY", 150, 1).convert(100) == 150  # one dollar
    assert Rate.between("JPY", "USD", 1, 150).convert(150) == 100
    assert Rate.between("BTC", "EUR", 60_000, 1).convert(10**8) == 6_000_000
    assert Rate.between("KWD", "EUR", 3, 1).convert(1_000) == 300  # three decimal places


@settings(max_examples=400, deadline=None)
@given(st.integers(-(10**40), 10**40), st.integers(1, 10**20))
def test_every_way_of_rounding_is_the_one_it_is_called(dividend: int, divisor: int) -> None:
    exact = Fraction(dividend, divisor)
    low = exact.numerator // exact.denominator
    high = low if exact == low else low + 1
    sign = (exact > 0) - (exact < 0)
    half_up = sign * ((2 * abs(exact.numerator) + exact.denominator) // (2 * exact.denominator))
    expected: dict[Rounding, int] = {
        "floor": low,
        "ceiling": high,
        "down": low if sign >= 0 else high,
        "up": high if sign >= 0 else low,
        "half-even": round(exact),
        "half-up": half_up,
    }
    for rounding, value in expected.items():
        assert divide(dividend, divisor, rounding) == value, rounding


@pytest.mark.parametrize(
    ("dividend", "expected"),
    [(5, (2, 3, 2, 3)), (-5, (-2, -3, -2, -3)), (7, (4, 4, 3, 4)), (-7, (-4, -4, -3, -4))],
)
def test_ties(dividend: int, expected: tuple[int, ...]) -> None:
    """5/2 and 7/2 lie between two integers: half to even, half up, down, up."""
    modes: tuple[Rounding, ...] = ("half-even", "half-up", "down", "up")
    assert tuple(divide(dividend, 2, mode) for mode in modes) == expected
