"""Transaction templates: sources in order, shares with a remainder, kept amounts; always the same, and never more than all."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.decider import Accepted
from schemas.ledger.commands import CloseAccount, PostTransaction
from schemas.ledger.events import TransactionPosted
from schemas.ledger.templates import TemplateDefined
from schemas.ledger.transactions import EntryInput, TransactionInput
from tests.unit.ledger.flows import ACCOUNTS, FlowBook, documented, flow

PRICE = {"variable": "price"}


def share(numerator: int, denominator: int, code: str | None = None) -> dict[str, Any]:
    """A destination with a share."""
    account = {} if code is None else {"account": {"code": code}}
    return {**account, "share": {"numerator": numerator, "denominator": denominator}}


def split(*destinations: Any, **more: Any) -> dict[str, Any]:
    """Alice pays a price to these."""
    return {"amounts": ["price"], "flows": [flow(PRICE, ["alice"], list(destinations), **more)]}


@pytest.fixture
def book() -> FlowBook:
    return FlowBook()


def test_a_definition_is_numbered_and_the_newest_is_applied(book: FlowBook) -> None:
    outcome = book.define("pay", split("seller"))
    outcome.then(TemplateDefined)
    assert outcome.accepted()["version"] == 1
    book.define("pay", split("platform")).accepted()
    assert book.apply("pay", {"price": 10}).accepted()["version"] == 2
    assert book.posted("seller", "platform") == [0, 10]
    (*_, last) = book.events(TransactionPosted)
    assert last.metadata == {"template": "pay/2"}  # type: ignore[attr-defined]
    book.apply("pay", {"price": 10}, version=2).accepted()
    book.apply("pay", {"price": 10}, version=1).rejected("template-changed", "/version")
    book.assert_replay_equal()


def test_shares_are_rounded_down_and_the_last_takes_the_remainder(book: FlowBook) -> None:
    book.define("split", split(share(1, 3, "commission"), share(1, 3, "tax"), "seller")).accepted()
    book.apply("split", {"price": 100}).accepted()
    assert book.posted("commission", "tax", "seller") == [33, 33, 34]


def test_a_share_may_have_a_most_and_what_it_leaves_goes_on(book: FlowBook) -> None:
    capped = share(1, 10, "commission") | {"at_most": {"fixed": 25}}
    book.define("capped", split(capped, "seller")).accepted()
    book.apply("capped", {"price": 1_000}).accepted()
    assert book.posted("commission", "seller") == [25, 975]


def test_amounts_are_given_in_order_before_the_remainder(book: FlowBook) -> None:
    waterfall = [
        {"account": {"code": code}, "at_most": {"fixed": most}}
        for code, most in (("tax", 30), ("reserve", 50))
    ]
    book.define("waterfall", split(*waterfall, "seller")).accepted()
    for price, expected in ((20, [20, 0, 0]), (70, [30, 40, 0]), (100, [30, 50, 20])):
        before = book.posted("tax", "reserve", "seller")
        book.apply("waterfall", {"price": price}).accepted()
        after = book.posted("tax", "reserve", "seller")
        assert [a - b for a, b in zip(after, before, strict=True)] == expected


def test_what_is_kept_is_not_taken(book: FlowBook) -> None:
    book.define("keep", split(share(1, 10), "seller")).accepted()
    book.apply("keep", {"price": 1_000}).accepted()
    assert book.posted("alice", "seller") == [99_100, 900]


def test_sources_give_in_order_up_to_their_limits_and_keep_what_they_must(book: FlowBook) -> None:
    book.post("alice", "reserve", 60).accepted()
    book.post("alice", "platform", 500).accepted()
    sources = [
        {"account": {"code": "reserve"}, "at_most": {"fixed": 50}},
        {"account": {"code": "platform"}, "keep": {"fixed": 480}},
        "alice",
    ]
    book.define("refund", {"amounts": ["price"], "flows": [flow(PRICE, sources, ["bob"])]}).accepted()
    alice = book["alice"].posted
    book.apply("refund", {"price": 100}).accepted()
    assert book.posted("reserve", "platform", "bob") == [10, 480, 100]
    assert book["alice"].posted == alice - 30


def test_an_account_that_is_a_source_twice_gives_what_it_has_once(book: FlowBook) -> None:
    book.post("alice", "reserve", 60).accepted()
    sources = [{"account": {"code": "reserve"}, "at_most": {"fixed": 40}}, "reserve"]
    book.define("twice", {"amounts": ["price"], "flows": [flow(PRICE, sources, ["bob"])]}).accepted()
    book.apply("twice", {"price": 61}).rejected("sources-insufficient", "/amounts")
    book.apply("twice", {"price": 60}).accepted()
    assert book.posted("reserve", "bob") == [0, 60]


def test_a_partial_flow_moves_what_there_is(book: FlowBook) -> None:
    book.post("alice", "reserve", 60).accepted()
    some = flow(PRICE, ["reserve"], [share(1, 2, "tax"), "bob"], partial=True)
    book.define("some", {"amounts": ["price"], "flows": [some]}).accepted()
    book.apply("some", {"price": 100}).accepted()
    assert book.posted("reserve", "tax", "bob") == [0, 30, 30]


def test_flows_see_what_those_before_them_moved(book: FlowBook) -> None:
    flows = [
        flow(PRICE, ["alice"], ["escrow"]),
        flow(
            {"balance_of": {"code": "escrow"}, "share": {"numerator": 1, "denominator": 4}},
            ["escrow"],
            ["tax"],
        ),
        flow({"balance_of": {"code": "escrow"}}, ["escrow"], ["seller"]),
    ]
    book.define("through", {"amounts": ["price"], "flows": flows}).accepted()
    book.apply("through", {"price": 100}).accepted()
    assert book.posted("escrow", "tax", "seller") == [0, 25, 75]


def test_money_that_is_held_is_not_given(book: FlowBook) -> None:
    book.define("pay", split("seller")).accepted()
    book.held("alice", "bob", 99_990)
    book.apply("pay", {"price": 11}).rejected("sources-insufficient")
    book.apply("pay", {"price": 10}).accepted()


def test_cash_that_comes_in_has_no_end(book: FlowBook) -> None:
    book.define("deposit", {"amounts": ["price"], "flows": [flow(PRICE, ["bank"], ["bob"])]}).accepted()
    book.apply("deposit", {"price": 10**20}).accepted()
    assert book["bob"].posted == 10**20


def test_a_dry_run_tells_the_entries_and_nothing_happens(book: FlowBook) -> None:
    book.define("split", split(share(1, 10, "commission"), "seller")).accepted()
    before = book.decider.dump(book.state)
    outcome = book.apply("split", {"price": 100}, dry_run=True)
    outcome.then()
    entries = [(e["side"], e["account_id"], e["amount"]) for e in outcome.accepted()["entries"]]
    assert entries == [
        ("debit", book.ids["alice"], 100),
        ("credit", book.ids["commission"], 10),
        ("credit", book.ids["seller"], 90),
    ]
    assert book.decider.dump(book.state) == before
    book.apply("split", {"price": 100_001}, dry_run=True).rejected("sources-insufficient")
    book.apply("split", {"price": 100}).accepted()
    (*_, last) = book.events(TransactionPosted)
    assert [(e.side, e.account_id, e.amount) for e in last.entries] == entries  # type: ignore[attr-defined]


def test_an_account_that_closed_since_is_named(book: FlowBook) -> None:
    book.define("pay", split("seller")).accepted()
    book.when(CloseAccount(ledger_id=book.ledger, account_id=book.ids["seller"])).accepted()
    book.apply("pay", {"price": 10}).rejected("account-closed", "/name")
    book.assert_replay_equal()


def test_the_documented_templates_do_what_the_page_says() -> None:
    book = FlowBook()
    templates = documented()
    assert set(templates) == {
        "marketplace-split",
        "escrow-fund",
        "escrow-release",
        "refund-waterfall",
        "cashback",
    }
    for name, template in templates.items():
        book.define(name, template).accepted()
    book.apply(
        "marketplace-split", {"price": 10_000}, accounts={"buyer": "alice", "seller": "seller"}
    ).accepted()
    assert book.posted("commission", "tax", "seller") == [1_500, 285, 8_215]
    book.apply("escrow-fund", {"price": 5_000}, accounts={"buyer": "alice"}).accepted()
    released = {"price": 5_000, "withheld": 1_000}
    book.apply("escrow-release", released, accounts={"seller": "seller"}).accepted()
    assert book.posted("escrow", "reserve", "seller") == [0, 1_000, 12_215]
    book.post("bank", "platform", 20_000).accepted()
    book.apply(
        "refund-waterfall", {"refund": 14_000}, accounts={"buyer": "alice", "seller": "seller"}
    ).accepted()
    assert book.posted("seller", "reserve", "platform") == [0, 0, 19_215]
    book.post("bank", "cashback-cost", 10_000).accepted()
    book.apply("cashback", {"price": 80_000}, accounts={"buyer": "alice"}).accepted()
    assert book.posted("rewards", "cashback-cost") == [500, 9_500]


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_template_moves_what_it_says_and_no_unit_more(rng: Random) -> None:
    """Random flows: balanced, deterministic, within every source's capacity, shares exact; and worth a plain posting."""
    book = FlowBook()
    codes = ["alice", "bob", *ACCOUNTS]
    for code in ACCOUNTS[:4]:
        book.post("alice", code, rng.randrange(1, 5_000)).accepted()
    sources = [
        {"account": {"code": code}}
        | rng.choice(
            [{}, {"at_most": {"fixed": rng.randrange(3_000)}}, {"keep": {"fixed": rng.randrange(3_000)}}]
        )
        for code in rng.choices(codes, k=rng.randrange(1, 5))
    ]
    takers: list[Any] = []
    for code in rng.choices([*codes, ""], k=rng.randrange(0, 4)):
        account = {"account": {"code": code}} if code else {}
        part = rng.choice(
            [
                {"share": {"numerator": rng.randrange(1, 10), "denominator": 30}},
                {"at_most": {"fixed": rng.randrange(500)}},
            ]
        )
        takers.append(account | part)
    partial, price = rng.randrange(2) == 0, rng.randrange(0, 8_000)
    template = {
        "amounts": ["price"],
        "flows": [flow(PRICE, sources, [*takers, rng.choice(codes)], partial=partial)],
    }
    book.define("any", template).accepted()
    before = {code: book[code].posted for code in codes}
    outcome = book.apply("any", {"price": price}, dry_run=True)
    again = book.apply("any", {"price": price}, dry_run=True)
    assert outcome.decision == again.decision
    if not isinstance(outcome.decision, Accepted):
        assert outcome.decision.reason in ("sources-insufficient", "nothing-to-move")
        assert not partial or outcome.decision.reason == "nothing-to-move"
        return
    legs = outcome.accepted()["entries"]
    debits = sum(e["amount"] for e in legs if e["side"] == "debit")
    assert debits == sum(e["amount"] for e in legs if e["side"] == "credit") <= price
    assert all(e["amount"] > 0 for e in legs)
    entries = [EntryInput(**leg) for leg in legs]
    book.when(
        PostTransaction(ledger_id=book.ledger, transaction=TransactionInput(entries=entries))
    ).accepted()
    names = {account: code for code, account in book.ids.items()}
    given_: dict[str, int] = {}
    for leg in legs:
        if leg["side"] == "debit":
            code = names[leg["account_id"]]
            given_[code] = given_.get(code, 0) + leg["amount"]
    assert all(amount <= before[code] for code, amount in given_.items())
    if not partial and all("account" in taker for taker in takers):
        assert debits == price
