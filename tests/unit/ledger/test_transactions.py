"""Moving money: what a transaction does, and what it must satisfy."""

from __future__ import annotations

import pytest

from schemas.ledger.commands import PostBatch, PostTransaction, ReverseTransaction
from schemas.ledger.events import Entry, TransactionPosted, TransactionReversed
from tests.unit.ledger.book import SAGA, Book, when


def test_a_transaction_moves_money_on_both_sides() -> None:
    book = Book()
    outcome = book.post("bank", "alice", 100, reference="wage-7", metadata={"month": "may"})
    transaction_id = outcome.accepted()["transaction_id"]
    outcome.then(
        TransactionPosted(
            ledger_id=book.ledger,
            transaction_id=transaction_id,
            entries=[
                Entry(account_id=book.ids["bank"], side="debit", amount=100, currency="EUR"),
                Entry(account_id=book.ids["alice"], side="credit", amount=100, currency="EUR"),
            ],
            effective_at=book.now_us,
            reference="wage-7",
            metadata={"month": "may"},
        )
    )
    assert book.balances("alice") == (100, 100)
    assert book.balances("bank") == (100, 100)


def test_an_effective_time_of_the_caller_stands_beside_the_recorded_one() -> None:
    book = Book()
    book.post("bank", "alice", 5, effective_at=1_700_000_000_000_000).accepted()
    event, meta = book.log[-1][0].event, book.log[-1][1]
    assert isinstance(event, TransactionPosted)
    assert event.effective_at == 1_700_000_000_000_000
    assert meta.time_us == book.now_us


def test_many_legs_balance_in_each_currency() -> None:
    book = Book()
    book.open("fx-usd", currency="USD", normal_side="debit")
    book.open("alice-usd", currency="USD")
    book.transact(
        book.entry("debit", "bank", 90),
        book.entry("credit", "alice", 50),
        book.entry("credit", "bob", 40),
        book.entry("debit", "fx-usd", 7, "USD"),
        book.entry("credit", "alice-usd", 7, "USD"),
    ).accepted()
    assert [book[code].posted for code in ("alice", "bob", "alice-usd")] == [50, 40, 7]


def test_entries_of_one_account_count_together() -> None:
    book = Book()
    book.post("bank", "alice", 10).accepted()
    book.transact(
        book.entry("debit", "alice", 25),  # by itself below the floor
        book.entry("credit", "bob", 15),
        book.entry("credit", "bank", 20),
        book.entry("debit", "bank", 10),
        book.entry("credit", "alice", 25),
        book.entry("debit", "bank", 25),
    ).accepted()
    assert [book[code].posted for code in ("alice", "bob", "bank")] == [10, 15, 25]


@pytest.mark.parametrize(("balance", "value"), [("posted", 100), ("available", 70)])
def test_a_condition_is_measured_before_the_transaction(balance: str, value: int) -> None:
    book = Book()
    book.post("bank", "alice", 100).accepted()
    book.held("alice", "bob", 30)

    def spend(amount: int, **bounds: int) -> str:
        condition = when("posted" if balance == "posted" else "available", **bounds)
        outcome = book.transact(
            book.entry("debit", "alice", amount, condition=condition), book.entry("credit", "bob", amount)
        )
        if hasattr(outcome.decision, "reason"):
            return outcome.rejected("condition-not-met", "/transaction/entries/0/condition").reason
        outcome.accepted()
        book.post("bob", "alice", amount).accepted()
        return "accepted"

    assert spend(50, at_least=value) == "accepted"
    assert spend(1, at_least=value + 1) == "condition-not-met"
    assert spend(50, at_most=value) == "accepted"
    assert spend(1, at_most=value - 1) == "condition-not-met"


def test_a_condition_on_a_debit_account_uses_its_normal_side() -> None:
    book = Book()
    book.post("bank", "alice", 100).accepted()
    book.transact(
        book.entry("debit", "bank", 1, condition=when("posted", at_least=100, at_most=100)),
        book.entry("credit", "alice", 1),
    ).accepted()


def test_a_batch_lets_each_transaction_see_those_before() -> None:
    book = Book()
    outcome = book.when(
        PostBatch(
            ledger_id=book.ledger,
            transactions=[
                book.move("bank", "alice", 10),
                book.move("alice", "bob", 10),
                book.move("bob", "alice", 4),
            ],
        )
    )
    ids = outcome.accepted()["transaction_ids"]
    outcome.then(TransactionPosted, TransactionPosted, TransactionPosted)
    assert ids == [emit.stream for emit, _ in book.log[-3:]]
    assert len(set(ids)) == 3
    assert [book[code].posted for code in ("alice", "bob")] == [4, 6]


def test_a_batch_is_all_or_nothing() -> None:
    book = Book()
    before = len(book.log)
    book.when(
        PostBatch(
            ledger_id=book.ledger,
            transactions=[
                book.move("bank", "alice", 10),
                book.move("alice", "bob", 6),
                book.move("alice", "bob", 5),
            ],
        )
    ).rejected("insufficient-funds", "/transactions/2/entries/0")
    assert len(book.log) == before
    assert book["alice"].posted == 0


def test_a_condition_in_a_batch_sees_the_transactions_before() -> None:
    book = Book()
    second = book.move("alice", "bob", 1).model_copy(
        update={
            "entries": [
                book.entry("debit", "alice", 1, condition=when("available", at_least=10)),
                book.entry("credit", "bob", 1),
            ]
        }
    )
    book.when(
        PostBatch(ledger_id=book.ledger, transactions=[book.move("bank", "alice", 10), second])
    ).accepted()
    book.when(
        PostBatch(ledger_id=book.ledger, transactions=[book.move("bank", "alice", 1), second])
    ).accepted()
    book.when(PostBatch(ledger_id=book.ledger, transactions=[book.move("alice", "bob", 1), second])).rejected(
        "condition-not-met", "/transactions/1/entries/0/condition"
    )


def test_a_reversal_posts_the_mirror_and_marks_the_original() -> None:
    book = Book()
    original = book.post("bank", "alice", 30).accepted()["transaction_id"]
    outcome = book.when(
        ReverseTransaction(ledger_id=book.ledger, transaction_id=original, effective_at=5, description="typo")
    )
    mirror = outcome.accepted()["transaction_id"]
    outcome.then(
        TransactionReversed(ledger_id=book.ledger, transaction_id=original, reversed_by=mirror),
        TransactionPosted(
            ledger_id=book.ledger,
            transaction_id=mirror,
            entries=[
                Entry(account_id=book.ids["bank"], side="credit", amount=30, currency="EUR"),
                Entry(account_id=book.ids["alice"], side="debit", amount=30, currency="EUR"),
            ],
            effective_at=5,
            description="typo",
            reverses=original,
        ),
    )
    assert outcome.accepted()["reverses"] == original
    assert book.balances("alice") == (0, 0)


def test_a_mirror_can_be_reversed_too() -> None:
    book = Book()
    original = book.post("bank", "alice", 30).accepted()["transaction_id"]
    mirror = book.when(ReverseTransaction(ledger_id=book.ledger, transaction_id=original)).accepted()
    book.when(ReverseTransaction(ledger_id=book.ledger, transaction_id=mirror["transaction_id"])).accepted()
    assert book["alice"].posted == 30


def test_a_reversal_keeps_the_limits() -> None:
    book = Book()
    original = book.post("bank", "alice", 30).accepted()["transaction_id"]
    book.post("alice", "bob", 1).accepted()
    book.when(ReverseTransaction(ledger_id=book.ledger, transaction_id=original)).rejected(
        "insufficient-funds", "/transaction_id"
    )


def test_only_the_saga_reverses_what_it_posted() -> None:
    book = Book()
    posting = PostTransaction(ledger_id=book.ledger, transaction=book.move("bank", "alice", 5))
    original = book.when(posting, saga_id=SAGA).accepted()["transaction_id"]
    reversal = ReverseTransaction(ledger_id=book.ledger, transaction_id=original)
    book.when(reversal).rejected("saga-only", "/transaction_id")
    book.when(reversal, saga_id=SAGA).accepted()


def test_a_retry_of_a_command_would_create_the_same_transaction() -> None:
    one, other = Book(), Book()
    ids = {b.post("bank", "alice", 1).accepted()["transaction_id"] for b in (one, other)}
    assert len(ids) == 1


def test_refusals_name_the_account_and_both_figures() -> None:
    book = Book()
    book.post("bank", "alice", 10).accepted()
    detail = book.post("alice", "bob", 25).rejected("insufficient-funds").detail
    assert book.ids["alice"] in detail
    assert "-15 minor units of EUR" in detail
    assert "floor is 0" in detail
