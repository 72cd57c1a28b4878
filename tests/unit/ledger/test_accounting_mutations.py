"""The tests of charts, currencies, periods and templates can see: each planted bug makes a story end otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from events.decider import Decider
from schemas.ledger.chart import AdoptChart, ChartNode, Facing
from schemas.ledger.currencies import PositionRate
from schemas.ledger.periods import ClosePeriod, ReopenPeriod
from services.ledger.domain import LedgerDecider
from tests.kit.scenario import START_US
from tests.unit.ledger.book import Book
from tests.unit.ledger.flows import FlowBook, flow
from tests.unit.ledger.money import MoneyBook, rate
from tests.unit.ledger.mutants import mutant

Story = Callable[[Decider[Any]], Book]


def charts(decider: Decider[Any]) -> Book:
    """Who may face whom, before and after a snapshot and for accounts opened later."""
    book = MoneyBook(decider)
    nodes = [ChartNode(code=code, type="liability", normal_side=book[code].normal_side) for code in book.ids]
    facings = [Facing(debit="bank", credit="alice"), Facing(debit="alice", credit="bob")]
    book.when(AdoptChart(ledger_id=book.ledger, nodes=nodes, facings=facings)).accepted()
    book.state = decider.load(decider.dump(book.state))
    book.open("bob:2")
    book.post("alice", "bob", 1).accepted()
    book.post("alice", "bob:2", 1).accepted()
    book.post("bob", "alice", 1).rejected("accounts-may-not-face")
    book.hold("bob", "alice", 1).rejected("accounts-may-not-face")
    book.assert_replay_equal()
    return book


def currencies(decider: Decider[Any]) -> Book:
    """Conversions in both directions with rounding, and a revaluation."""
    book = MoneyBook(decider)
    book.record("EUR", "USD", 3, 2).accepted()
    book.record("EUR", "USD", 9, 1, observed_at=START_US).accepted()
    book.state = decider.load(decider.dump(book.state))
    terms = {"rounding": "down", "rounding_account": "round-usd"}
    book.convert("alice", "carol-usd", 5, **terms).accepted()
    assert [book[c].balance for c in ("fx-usd", "carol-usd", "round-usd", "fx-eur")] == [8, -7, -1, -5]
    book.convert("carol-usd", "alice", 3).accepted()
    assert [book[c].balance for c in ("fx-usd", "carol-usd", "fx-eur")] == [5, -4, -3]
    dear = PositionRate(base="USD", numerator=2, denominator=1, source="x")
    book.revalue("fx-usd", rates=[dear]).accepted()
    assert [book[c].balance for c in ("fx-eur", "loss", "gain")] == [-10, 7, 0]
    book.assert_replay_equal()
    return book


def periods(decider: Decider[Any]) -> Book:
    """Both marks, what may lie between them, and how far they go back."""
    book = MoneyBook(decider)

    def close(until: int, closing: Any) -> Any:
        return book.when(ClosePeriod(ledger_id=book.ledger, until=until, closing=closing))

    close(START_US + 10**9, "soft").rejected("period-not-over")
    close(START_US, "soft").accepted()
    close(START_US - 10, "hard").accepted()
    book.state = decider.load(decider.dump(book.state))
    book.post("bank", "alice", 1, effective_at=START_US).accepted()
    book.post("bank", "alice", 1, effective_at=START_US - 1).rejected("period-closed")
    book.convert("alice", "carol-usd", 1, rate=rate(1, 1), effective_at=0).rejected("period-closed")
    book.when(ReopenPeriod(ledger_id=book.ledger, until=START_US - 11)).rejected("period-closed")
    book.when(ReopenPeriod(ledger_id=book.ledger, until=START_US - 10)).accepted()
    book.post("bank", "alice", 1, effective_at=START_US - 10).accepted()
    book.assert_replay_equal()
    return book


def templates(decider: Decider[Any]) -> Book:
    """Limits, keeping, shares with a most, kept parts, what is drawn and from whom."""
    book = FlowBook(decider)
    book.post("alice", "reserve", 60).accepted()
    sources = [
        {"account": {"code": "reserve"}, "keep": {"fixed": 20}},
        {"account": {"code": "alice"}, "at_most": {"fixed": 70}},
    ]
    takers = [
        {"account": {"code": "tax"}, "share": {"numerator": 1, "denominator": 3}, "at_most": {"fixed": 30}},
        {"share": {"numerator": 1, "denominator": 10}},
        {"account": {"code": "commission"}, "at_most": {"fixed": 5}},
        "seller",
    ]
    flows = [
        flow({"variable": "price"}, sources, takers),
        flow({"balance_of": {"code": "tax"}}, ["tax"], ["bob"]),
    ]
    book.define("all", {"amounts": ["price"], "flows": flows}).accepted()
    book.state = decider.load(decider.dump(book.state))
    book.apply("all", {"price": 111}).rejected("sources-insufficient")
    alice = book["alice"].posted
    book.apply("all", {"price": 100}).accepted()
    assert book.posted("reserve", "tax", "commission", "seller", "bob") == [20, 0, 5, 55, 30]
    assert alice - book["alice"].posted == 50
    book.assert_replay_equal()
    return book


#: (story, module, before, after)
BUGS: list[tuple[Story, str, str, str]] = [
    (charts, "charting", "if currency == entry.currency and not may_debit & account.may_credit:", "if False:"),
    (charts, "holds", "if ledger.has_facings and not debit.may_debit & credit.may_credit:", "if False:"),
    (charts, "evolve", "    if ledger.chart is not None:\n        account.may_debit", "    if False:\n        account.may_debit"),
    (charts, "snapshot", "        ledger.take_chart(Chart(", "        str(Chart("),
    (charts, "chart", "_bits(covers(f.credit, node.code) for f in self.facings),", "_bits(covers(f.debit, node.code) for f in self.facings),"),
    (currencies, "state", "if known is None or known.observed_at <= rate.observed_at:", "if True:"),
    (currencies, "conversion", "quotient % 2 == 1", "quotient % 2 == 0"),
    (currencies, "conversion", "up = dividend < 0", "up = dividend > 0"),
    (currencies, "exchange", "_leg(self.target_liquidity, out, bought if computed_sold else found.fair)", "_leg(self.target_liquidity, out, bought)"),
    (currencies, "exchange", "kept.denominator, kept.numerator, ledger.places", "kept.numerator, kept.denominator, ledger.places"),
    (currencies, "exchange", "gain = -(sum(each.value for each in positions) + counter.balance)", "gain = -sum(each.value for each in positions)"),
    (currencies, "exchange", 'side: Side = "debit" if gain > 0 else "credit"', 'side: Side = "credit" if gain > 0 else "debit"'),
    (periods, "posting", "    if effective_at < open_from:", "    if effective_at <= open_from:"),
    (periods, "posting", "    if transaction.effective_at is not None:", "    if False:"),
    (periods, "periods", "if command.until > ctx.now_us:", "if False:"),
    (periods, "periods", "if command.until < ledger.hard_until:", "if False:"),
    (periods, "periods", "soft_until=max(ledger.soft_until, command.until)", "soft_until=command.until"),
    (periods, "snapshot", 'ledger.soft_until, ledger.hard_until = book.get("closed", (0, 0))', "pass"),
    (templates, "program", "has = max(run.available(account) - planned - kept, 0)", "has = max(run.available(account) - planned, 0)"),
    (templates, "program", "return has if most is None else min(has, most)", "return has"),
    (templates, "program", "parts[index] = part if taker.at_most is None else min(part, taker.at_most(run))", "parts[index] = part"),
    (templates, "program", "            drawn = min(part, to_draw)", "            drawn = part"),
    (templates, "program", "moved = self.moved.get(account, 0)\n        return account.available", "moved = 0\n        return account.available"),
    (templates, "program", "if left and not self.partial:", "if False:"),
]  # fmt: skip


@pytest.mark.parametrize("story", [charts, currencies, periods, templates])
def test_the_sound_ledger_tells_every_story(story: Story) -> None:
    assert story(LedgerDecider()).events()


@pytest.mark.parametrize(
    ("story", "module", "before", "after"), BUGS, ids=[f"{b[1]}: {b[2].strip()[:50]}" for b in BUGS]
)
def test_a_planted_bug_ends_the_story_otherwise(story: Story, module: str, before: str, after: str) -> None:
    with mutant(module, before, after) as decider, pytest.raises((AssertionError, KeyError, ValueError)):
        story(decider)
