"""The chart of accounts: what may be opened, who may face whom, and what a chart must be to be adopted."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.ledger.chart import AdoptChart, AdoptedFacing, AdoptedNode, ChartAdopted, ChartNode, Facing
from schemas.ledger.commands import CloseAccount, OpenAccount, PostTransaction, ReverseTransaction
from schemas.ledger.terms import NORMAL_SIDES, AccountType, Side
from schemas.ledger.transactions import EntryInput, TransactionInput
from services.ledger.chart import Chart, covers, nearest
from services.ledger.chart_templates import TEMPLATES
from tests.kit.scenario import Outcome
from tests.unit.ledger.book import Book

#: Places for the accounts that every :class:`Book` has.
PLACES = [
    ChartNode(code="bank", type="asset"),
    ChartNode(code="alice", type="liability"),
    ChartNode(code="bob", type="liability"),
]


def adopt(book: Book, *nodes: ChartNode, facings: list[tuple[str, str]] | None = None) -> Outcome:
    """Adopt :data:`PLACES` and ``nodes``."""
    pairs = None if facings is None else [Facing(debit=d, credit=c) for d, c in facings]
    return book.when(AdoptChart(ledger_id=book.ledger, nodes=[*PLACES, *nodes], facings=pairs))


def test_a_chart_is_recorded_whole_sorted_and_with_every_side() -> None:
    book = Book()
    contra = ChartNode(code="bank:allowance", type="asset", name="Allowance", normal_side="credit")
    outcome = adopt(book, contra, facings=[("bank", "*")])
    assert outcome.accepted() == {"ledger_id": book.ledger, "revision": 1}
    outcome.then(
        ChartAdopted(
            ledger_id=book.ledger,
            revision=1,
            nodes=[
                AdoptedNode(code="alice", type="liability", name="", normal_side="credit"),
                AdoptedNode(code="bank", type="asset", name="", normal_side="debit"),
                AdoptedNode(code="bank:allowance", type="asset", name="Allowance", normal_side="credit"),
                AdoptedNode(code="bob", type="liability", name="", normal_side="credit"),
            ],
            facings=[AdoptedFacing(debit="bank", credit="*")],
        )
    )
    assert adopt(book).accepted()["revision"] == 2
    book.assert_replay_equal()


def test_an_account_opens_where_the_chart_has_a_place_on_the_side_of_that_place() -> None:
    book = Book()
    adopt(book, ChartNode(code="liabilities", type="liability")).accepted()
    book.open("liabilities:wallets:7")
    book.open("liabilities")

    def opened(code: str, side: Side) -> Outcome:
        return book.when(OpenAccount(ledger_id=book.ledger, code=code, currency="EUR", normal_side=side))

    opened("assets:cash", "debit").rejected("code-not-in-chart", "/code")
    opened("liabilities-of-others", "credit").rejected("code-not-in-chart", "/code")
    opened("liabilities:8", "debit").rejected("side-not-of-chart", "/normal_side")
    book.assert_replay_equal()


def test_accounts_face_each_other_as_the_chart_allows_and_no_other_way() -> None:
    book = Book()
    adopt(book, facings=[("bank", "alice"), ("alice", "bob")]).accepted()
    book.post("bank", "alice", 50).accepted()
    book.post("alice", "bob", 20).accepted()
    book.post("bob", "alice", 5).rejected("accounts-may-not-face", "/transaction/entries/1/account_id")
    book.hold("alice", "bob", 5).accepted()
    book.hold("bank", "bob", 5).rejected("accounts-may-not-face", "/credit_account_id")
    mixed = [
        book.entry("debit", "bank", 3),
        book.entry("debit", "alice", 3),
        book.entry("credit", "alice", 3),
        book.entry("credit", "bob", 3),
    ]
    book.transact(*mixed).rejected("accounts-may-not-face", "/transaction/entries/2/account_id")
    book.assert_replay_equal()


def test_what_was_posted_can_always_be_reversed() -> None:
    """The mirror debits what was credited, which no facing allows here; undoing is not another business."""
    book = Book()
    posted = book.post("bank", "alice", 50).accepted()["transaction_id"]
    adopt(book, facings=[("bank", "alice")]).accepted()
    book.post("alice", "bank", 50).rejected("accounts-may-not-face")
    book.when(ReverseTransaction(ledger_id=book.ledger, transaction_id=posted)).accepted()


def test_a_hold_that_was_placed_keeps_its_word_under_another_chart() -> None:
    book = Book()
    book.post("bank", "alice", 50).accepted()
    hold_id = book.held("alice", "bob", 20)
    adopt(book, facings=[("bank", "alice")]).accepted()
    book.post_hold(hold_id).accepted()


def test_only_the_same_currency_faces_each_other() -> None:
    """A conversion has two pairs of legs: the chart judges each pair by itself."""
    book = Book()
    adopt(
        book,
        ChartNode(code="usd", type="liability"),
        facings=[("bank", "alice"), ("usd", "usd")],
    ).accepted()
    book.open("usd:1", currency="USD")
    book.open("usd:2", currency="USD")
    book.transact(
        book.entry("debit", "bank", 5),
        book.entry("credit", "alice", 5),
        book.entry("debit", "usd:1", 6, "USD"),
        book.entry("credit", "usd:2", 6, "USD"),
    ).accepted()


def test_a_chart_without_facings_lets_everyone_face_everyone() -> None:
    book = Book()
    adopt(book, facings=[("bank", "alice")]).accepted()
    book.post("alice", "bank", 0 + 1).rejected("accounts-may-not-face")
    adopt(book, facings=[]).accepted()
    book.post("bank", "bob", 1).accepted()


def test_closed_accounts_need_no_place() -> None:
    book = Book()
    gone = book.open("gone")
    adopt(book).rejected("account-outside-chart", "/nodes")
    book.when(CloseAccount(ledger_id=book.ledger, account_id=gone)).accepted()
    adopt(book).accepted()


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_templates_are_consistent_and_serve_the_common_postings(name: str) -> None:
    book = Book()
    template = TEMPLATES[name]  # type: ignore[index]
    book.when(AdoptChart(ledger_id=book.ledger, template=name, nodes=PLACES)).accepted()  # type: ignore[arg-type]
    for node in template.nodes:
        side = node.normal_side or NORMAL_SIDES[node.type]
        book.open(node.code, normal_side=side)
    post = book.post
    post("assets:bank", "liabilities:suspense", 100).accepted()
    post("liabilities:suspense", "income:fees", 3).accepted()
    post("expenses:rails", "assets:bank", 1).accepted()
    post("income:fees", "equity:retained", 3).accepted()
    post("equity:retained", "expenses:rails", 1).accepted()
    post("liabilities:suspense", "equity:capital", 1).rejected("accounts-may-not-face")
    post("expenses:losses", "income:fees", 1).rejected("accounts-may-not-face")


def test_a_pattern_is_a_place_and_all_below_it() -> None:
    assert covers("a", "a")
    assert covers("a", "a:b:c")
    assert covers("*:b", "a:b:c")
    assert covers("*", "a:b")
    assert not covers("a:b", "a")
    assert not covers("a", "ab")
    assert not covers("a:*", "a")
    for wrong in ("", "a:", ":a", "a**", "a:b*", "a::b", "a:b:c:d:e:f:g:h:i"):
        with pytest.raises(ValidationError):
            Facing(debit=wrong, credit="*")


CODES = st.lists(st.sampled_from(["a", "b", "c", "ab"]), min_size=1, max_size=4).map(":".join)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3).map(":".join)


@settings(max_examples=120, deadline=None)
@given(
    st.sets(CODES, min_size=1, max_size=8), CODES, CODES, st.lists(st.tuples(PATTERNS, PATTERNS), max_size=6)
)
def test_bits_say_what_the_patterns_say(
    codes: set[str], debit: str, credit: str, pairs: list[tuple[str, str]]
) -> None:
    """Against the plain sentence: the node is the longest code above; a facing covers both nodes."""
    nodes = [AdoptedNode(code=c, type="asset", name="", normal_side="debit") for c in sorted(codes)]
    chart = Chart(1, None, nodes, [AdoptedFacing(debit=d, credit=c) for d, c in pairs])

    def above(code: str) -> str | None:
        fitting = [n for n in codes if (code + ":").startswith(n + ":")]
        return max(fitting, key=len, default=None)

    def within(pattern: str, node: str) -> bool:
        have = node.split(":")
        wanted = pattern.split(":")
        return len(have) >= len(wanted) and all(w in ("*", have[i]) for i, w in enumerate(wanted))

    assert nearest(debit, codes) == above(debit)
    left, right = above(debit), above(credit)
    plain = any(
        left is not None and right is not None and within(d, left) and within(c, right) for d, c in pairs
    )
    assert bool(chart.parts_of(debit)[0] & chart.parts_of(credit)[1]) is plain


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_random_transactions_are_judged_pair_by_pair(rng: Random) -> None:
    """Whatever the legs: refused for facing exactly when some debit and credit of one currency may not meet."""
    book = Book()
    kinds: list[AccountType] = ["asset", "liability", "income"]
    places = [ChartNode(code=f"p{n}", type=kinds[n % 3], normal_side="credit") for n in range(4)]
    pairs = [(f"p{rng.randrange(4)}", f"p{rng.randrange(4)}") for _ in range(rng.randrange(1, 8))]
    adopt(book, *places, facings=pairs).accepted()
    accounts = [(f"p{n}:{currency}", f"p{n}", currency) for n in range(4) for currency in ("EUR", "USD")]
    for code, _, currency in accounts:
        book.open(code, currency=currency)
    for _ in range(12):
        legs: list[EntryInput] = []
        named: list[tuple[Side, str, str]] = []
        for currency in rng.choice((["EUR"], ["EUR", "USD"])):
            some = [a for a in accounts if a[2] == currency]
            for side in ("debit", "credit"):
                for code, place, _ in rng.choices(some, k=2):
                    legs.append(book.entry(side, code, 5, currency))
                    named.append((side, place, currency))
        fine = all(
            (d, c) in pairs
            for side, d, cur in named
            if side == "debit"
            for other, c, cur2 in named
            if other == "credit" and cur == cur2
        )
        transaction = TransactionInput(entries=legs)
        outcome = book.when(PostTransaction(ledger_id=book.ledger, transaction=transaction))
        if fine:
            outcome.accepted()
        else:
            outcome.rejected("accounts-may-not-face")
    book.assert_replay_equal()
