"""Several currencies: rates, conversions with explicit rounding, and what positions are worth."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.common.currencies import ISO_4217, WITHDRAWN
from schemas.common.money import EXPONENTS, exponent, format_amount, parse_amount
from schemas.ledger.commands import OpenAccount, ReverseTransaction
from schemas.ledger.currencies import (
    CurrencyConverted,
    PositionRate,
    PositionsRevalued,
    RateRecorded,
    RegisterAsset,
    Rounding,
)
from schemas.ledger.events import Entry, TransactionPosted
from services.ledger.conversion import divide
from tests.unit.ledger.money import MoneyBook, rate

MODES: tuple[Rounding, ...] = ("half-even", "half-up", "down", "up", "floor", "ceiling")
HOUR_US = 3_600_000_000


@pytest.fixture
def book() -> MoneyBook:
    return MoneyBook()


def entries(book: MoneyBook) -> list[tuple[str, str, int]]:
    """The legs that were posted last: side, code, amount."""
    names = {account: code for code, account in book.ids.items()}
    (*_, last) = book.events(TransactionPosted)
    assert isinstance(last, TransactionPosted)
    return [(e.side, names[e.account_id], e.amount) for e in last.entries]


def test_the_table_of_iso_4217() -> None:
    assert len(ISO_4217) == 167
    assert (ISO_4217["EUR"].numeric, ISO_4217["JPY"].exponent, ISO_4217["KWD"].exponent) == ("978", 0, 3)
    assert {ISO_4217[code].exponent for code in WITHDRAWN} == {2}
    numbers = [each.numeric for code, each in ISO_4217.items() if code not in WITHDRAWN]
    assert len(set(numbers)) == len(numbers)
    assert all(len(n) == 3 and n.isdigit() for n in numbers)
    for code in EXPONENTS:
        assert parse_amount(format_amount(-1234567, code), code) == -1234567


def test_a_conversion_has_four_legs_and_each_currency_sums_to_zero(book: MoneyBook) -> None:
    outcome = book.convert("alice", "carol-usd", 10_000, rate=rate(108, 100))
    result = outcome.accepted()
    outcome.then(TransactionPosted, CurrencyConverted)
    assert entries(book) == [
        ("debit", "alice", 10_000),
        ("credit", "fx-eur", 10_000),
        ("debit", "fx-usd", 10_800),
        ("credit", "carol-usd", 10_800),
    ]
    (event,) = book.events(CurrencyConverted)
    assert isinstance(event, CurrencyConverted)
    assert (event.transaction_id, event.conversion_id) == (result["transaction_id"], result["conversion_id"])
    assert (event.sold, event.sold_currency, event.bought, event.bought_currency) == (
        10_000,
        "EUR",
        10_800,
        "USD",
    )
    assert (event.numerator, event.denominator, event.source, event.rate_id) == (108, 100, "desk", None)
    assert (event.rounded, event.remainder_numerator) == (0, 0)
    assert event.observed_at == book.now_us
    book.assert_replay_equal()


def test_what_is_bought_can_be_fixed_instead(book: MoneyBook) -> None:
    book.convert("alice", "carol-usd", 10_800, fixed="bought", rate=rate(108, 100)).accepted()
    assert entries(book)[0] == ("debit", "alice", 10_000)
    assert entries(book)[3] == ("credit", "carol-usd", 10_800)


def test_decimal_places_of_both_currencies_count(book: MoneyBook) -> None:
    book.convert("alice", "carol-jpy", 10_000, rate=rate(160, 1)).accepted()  # 100.00 EUR at 160 yen
    assert entries(book)[3] == ("credit", "carol-jpy", 16_000)


def test_rounding_that_is_not_fair_goes_to_the_named_account(book: MoneyBook) -> None:
    """5 cents at 1.5 are 7.5: the fair amount is 8, rounded down the customer gets 7, and 1 is kept."""
    terms = {"rate": rate(3, 2), "rounding": "down"}
    book.convert("alice", "carol-usd", 5, **terms).rejected(
        "rounding-account-missing", "/rounding_account_id"
    )
    book.convert("alice", "carol-usd", 5, **terms, rounding_account="round-usd").accepted()
    assert entries(book)[2:] == [
        ("debit", "fx-usd", 8),
        ("credit", "carol-usd", 7),
        ("credit", "round-usd", 1),
    ]
    (event,) = book.events(CurrencyConverted)
    assert isinstance(event, CurrencyConverted)
    assert event.rounded == 1
    assert (event.remainder_numerator, event.remainder_denominator) == (-1, 2)
    book.assert_replay_equal()


def test_a_customer_may_also_be_given_the_better_of_two_amounts(book: MoneyBook) -> None:
    """7 cents at 1.5 are 10.5: fair 10, rounded up 11; the rounding account pays the one."""
    terms = {"rate": rate(3, 2), "rounding": "up", "rounding_account": "round-usd"}
    book.convert("alice", "carol-usd", 7, **terms).accepted()
    assert entries(book)[2:] == [
        ("debit", "fx-usd", 10),
        ("credit", "carol-usd", 11),
        ("debit", "round-usd", 1),
    ]


def test_a_recorded_rate_serves_both_directions_and_the_newest_counts(book: MoneyBook) -> None:
    recorded = book.record("EUR", "USD", 110, 100)
    rate_id = recorded.accepted()["rate_id"]
    recorded.then(RateRecorded)
    now = book.now_us
    book.record("EUR", "USD", 999, 100, observed_at=now - HOUR_US).accepted()  # arrives late, observed before
    outcome = book.convert("alice", "carol-usd", 10_000)
    assert entries(book)[3][2] == 11_000
    event = outcome.then(TransactionPosted, CurrencyConverted).decision.events[1].event  # type: ignore[union-attr]
    assert isinstance(event, CurrencyConverted)
    assert (event.rate_id, event.source, event.observed_at, event.inverse) == (rate_id, "ecb", now, False)
    book.convert("carol-usd", "alice", 11_000).accepted()
    assert entries(book)[3] == ("credit", "alice", 10_000)
    book.record("USD", "EUR", 1, 2).accepted()  # newer, the other way round
    book.convert("alice", "carol-usd", 10_000).accepted()
    assert entries(book)[3][2] == 20_000
    (*_, last) = book.events(CurrencyConverted)
    assert isinstance(last, CurrencyConverted)
    assert (last.inverse, last.numerator, last.denominator) == (True, 2, 1)
    book.assert_replay_equal()


def test_a_rate_may_be_required_to_be_fresh(book: MoneyBook) -> None:
    book.record("EUR", "USD", 110, 100).accepted()
    book.convert("alice", "carol-usd", 100, max_rate_age_us=HOUR_US).accepted()
    book.at(book.now_us + HOUR_US)
    book.convert("alice", "carol-usd", 100, max_rate_age_us=HOUR_US).rejected("rate-too-old", "/rate")


def test_limits_hold_and_the_refusal_points_at_the_account(book: MoneyBook) -> None:
    outcome = book.convert("alice", "carol-usd", 100_001, rate=rate(1, 1))
    outcome.rejected("insufficient-funds", "/source_account_id")


def test_a_conversion_can_be_reversed_like_any_transaction(book: MoneyBook) -> None:
    posted = book.convert("alice", "carol-usd", 10_000, rate=rate(108, 100)).accepted()["transaction_id"]
    book.when(ReverseTransaction(ledger_id=book.ledger, transaction_id=posted)).accepted()
    assert [book[code].balance for code in ("carol-usd", "fx-usd", "fx-eur")] == [0, 0, 0]


def test_a_registered_asset_has_its_own_decimal_places(book: MoneyBook) -> None:
    unknown = OpenAccount(ledger_id=book.ledger, code="gold", currency="GOLD")
    book.when(unknown).rejected("unknown-currency", "/currency")
    book.when(RegisterAsset(ledger_id=book.ledger, code="GOLD", places=3, name="Grams of gold")).accepted()
    for code in ("carol-gold", "fx-gold"):
        book.open(code, currency="GOLD")
    book.convert("alice", "carol-gold", 50_000, rate=rate(1, 100)).accepted()  # 500.00 EUR, 100 EUR a gram
    assert entries(book)[3] == ("credit", "carol-gold", 5_000)
    book.assert_replay_equal()


def test_revaluation_enters_what_a_position_has_gained_and_then_what_it_has_lost(book: MoneyBook) -> None:
    """Carol's 108.00 USD were bought for 100.00 EUR: the business is short of dollars."""
    book.convert("alice", "carol-usd", 10_000, rate=rate(108, 100)).accepted()
    dearer = PositionRate(base="USD", numerator=1, denominator=1, source="ecb")
    outcome = book.revalue("fx-usd", rates=[dearer])
    outcome.then(TransactionPosted, PositionsRevalued)
    assert entries(book) == [("credit", "fx-eur", 800), ("debit", "loss", 800)]
    (event,) = book.events(PositionsRevalued)
    assert isinstance(event, PositionsRevalued)
    assert (event.unrealised, event.carried, event.currency) == (-800, -10_000, "EUR")
    assert [(p.balance, p.value) for p in event.positions] == [(10_800, 10_800)]
    outcome = book.revalue("fx-usd", rates=[dearer])
    outcome.then(PositionsRevalued)  # nothing has changed since: no transaction
    assert "transaction_id" not in outcome.accepted()
    cheaper = PositionRate(base="USD", numerator=1, denominator=2, source="ecb")
    book.revalue("fx-usd", rates=[cheaper]).accepted()
    assert entries(book) == [("debit", "fx-eur", 5_400), ("credit", "gain", 5_400)]
    book.assert_replay_equal()


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_after_any_conversions_a_revaluation_leaves_nothing_and_books_all_that_was_won(rng: Random) -> None:
    """The result in euro is what the open positions are worth, and what the conversions paid and got for them."""
    book = MoneyBook()
    moves: list[tuple[str, int]] = []
    for _ in range(rng.randrange(1, 8)):
        code, currency = rng.choice([("carol-usd", "USD"), ("carol-jpy", "JPY")])
        source, target = ("alice", code) if rng.randrange(2) else (code, "alice")
        before = {c: book[f"fx-{c.lower()}"].balance for c in ("EUR", "USD", "JPY")}
        numbers = rate(rng.randrange(1, 300), rng.randrange(1, 300))
        outcome = book.convert(source, target, rng.randrange(1, 9_000), rate=numbers)
        if hasattr(outcome.decision, "reason"):
            assert outcome.decision.reason in ("insufficient-funds", "nothing-converted")
            continue
        moves += [(c, book[f"fx-{c.lower()}"].balance - before[c]) for c in before]
    finals = {"USD": (rng.randrange(1, 300), rng.randrange(1, 300)), "JPY": (1, 160)}
    rates = [PositionRate(base=b, numerator=n, denominator=d, source="x") for b, (n, d) in finals.items()]
    worth = 0
    for currency, (numerator, denominator) in finals.items():
        held = sum(change for c, change in moves if c == currency)
        places = 10 ** (2 - exponent(currency))
        worth += round(Fraction(held * numerator * places, denominator))
    expected = -(worth + sum(change for c, change in moves if c == "EUR"))
    book.revalue("fx-usd", "fx-jpy", rates=rates).accepted()
    assert -book["gain"].balance - book["loss"].balance == expected
    assert worth + book["fx-eur"].balance == 0
    book.assert_replay_equal()


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 10**6),
    st.integers(1, 10**9),
    st.integers(1, 10**9),
    st.sampled_from(MODES),
    st.sampled_from(["sold", "bought"]),
)
def test_every_conversion_accounts_for_every_part_of_a_minor_unit(
    amount: int, numerator: int, denominator: int, mode: Rounding, fixed: str
) -> None:
    """Exact = given + kept + remainder, in fractions; the remainder is half a minor unit at most."""
    book = MoneyBook()
    book.post("bank", "alice", 10**20).accepted()
    rounding = "round-usd" if fixed == "sold" else "round-eur"
    outcome = book.convert(
        "alice",
        "carol-usd",
        amount,
        fixed=fixed,
        rate=rate(numerator, denominator),
        rounding=mode,
        rounding_account=rounding,
    )
    exact = Fraction(amount * numerator, denominator)
    if fixed == "bought":
        exact = Fraction(amount * denominator, numerator)
    if not divide(exact.numerator, exact.denominator, mode) or not round(exact):
        outcome.rejected("nothing-converted", "/amount")
        return
    outcome.accepted()
    (event,) = book.events(CurrencyConverted)
    assert isinstance(event, CurrencyConverted)
    remainder = Fraction(event.remainder_numerator, event.remainder_denominator)
    assert abs(remainder) <= Fraction(1, 2)
    assert -1 <= event.rounded <= 1
    if fixed == "sold":
        assert (event.sold, event.bought + event.rounded + remainder) == (amount, exact)
    else:
        assert (event.bought, event.sold - event.rounded + remainder) == (amount, exact)
    assert -book[rounding].balance == event.rounded
    assert [type(e) for e in book.events()][-2:] == [TransactionPosted, CurrencyConverted]
    assert all(isinstance(e, Entry) for e in book.events(TransactionPosted)[-1].entries)  # type: ignore[attr-defined]
