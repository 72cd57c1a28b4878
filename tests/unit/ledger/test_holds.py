"""Reserving money: a hold keeps its promise until it is posted, voided or expired."""

from __future__ import annotations

import pytest

from schemas.ledger.commands import ExpireHold, ReverseTransaction
from schemas.ledger.events import Entry, HoldExpired, HoldPlaced, HoldPosted, HoldVoided, TransactionPosted
from services.ledger.holds import expiry_id
from tests.kit.scenario import START_US
from tests.unit.ledger.book import SAGA, Book

HOUR_US = 3_600_000_000


@pytest.fixture
def book() -> Book:
    """Alice has 100."""
    book = Book()
    book.post("bank", "alice", 100).accepted()
    return book


def test_a_hold_reserves_on_one_side_and_gives_nothing_to_the_other(book: Book) -> None:
    outcome = book.hold("alice", "bob", 60, expires_at=START_US + HOUR_US, reference="order-9")
    outcome.then(
        HoldPlaced(
            ledger_id=book.ledger,
            hold_id=outcome.accepted()["hold_id"],
            debit_account_id=book.ids["alice"],
            credit_account_id=book.ids["bob"],
            amount=60,
            currency="EUR",
            expires_at=START_US + HOUR_US,
            reference="order-9",
        )
    )
    assert book.balances("alice") == (100, 40)
    assert book.balances("bob") == (0, 0)


def test_what_is_reserved_can_not_be_spent(book: Book) -> None:
    book.held("alice", "bob", 60)
    book.post("alice", "bob", 41).rejected("insufficient-funds", "/transaction/entries/0")
    book.hold("alice", "bob", 41).rejected("insufficient-funds", "/amount")
    book.post("alice", "bob", 40).accepted()


def test_incoming_pending_money_is_not_available(book: Book) -> None:
    book.held("alice", "bob", 60)
    book.post("bob", "bank", 1).rejected("insufficient-funds")


def test_a_hold_counts_towards_the_ceiling_of_its_credit_account(book: Book) -> None:
    book.open("purse", ceiling=50)
    book.held("alice", "purse", 30)
    book.hold("alice", "purse", 21).rejected("ceiling-exceeded", "/amount")
    book.post("alice", "purse", 21).rejected("ceiling-exceeded", "/transaction/entries/1")
    book.post("alice", "purse", 20).accepted()


def test_a_hold_that_would_raise_a_debit_account_counts_towards_its_ceiling(book: Book) -> None:
    book.open("vault", normal_side="debit", ceiling=20, floor=0)
    book.hold("vault", "bob", 21).rejected("ceiling-exceeded", "/amount")
    book.held("vault", "bob", 20)
    assert book.balances("vault") == (0, 0)


def test_a_hold_that_would_lower_a_debit_account_reserves_there(book: Book) -> None:
    book.open("vault", normal_side="debit", floor=0)
    book.hold("alice", "vault", 1).rejected("insufficient-funds", "/amount")
    book.post("vault", "alice", 5).accepted()
    book.held("alice", "vault", 5)
    assert book.balances("vault") == (5, 0)


def test_posting_in_full_moves_what_was_held(book: Book) -> None:
    hold_id = book.held("alice", "bob", 60, reference="order-9")
    outcome = book.post_hold(hold_id)
    transaction_id = outcome.accepted()["transaction_id"]
    assert outcome.accepted()["hold_id"] == hold_id
    outcome.then(
        HoldPosted(
            ledger_id=book.ledger, hold_id=hold_id, transaction_id=transaction_id, amount=60, remaining=0
        ),
        TransactionPosted(
            ledger_id=book.ledger,
            transaction_id=transaction_id,
            entries=[
                Entry(account_id=book.ids["alice"], side="debit", amount=60, currency="EUR"),
                Entry(account_id=book.ids["bob"], side="credit", amount=60, currency="EUR"),
            ],
            effective_at=book.now_us,
            reference="order-9",
            hold_id=hold_id,
        ),
    )
    assert book.balances("alice") == (40, 40)
    assert book.balances("bob") == (60, 60)


def test_a_final_part_frees_the_rest(book: Book) -> None:
    hold_id = book.held("alice", "bob", 60)
    posted = book.post_hold(hold_id, 25).then(HoldPosted, TransactionPosted)
    part = book.events(HoldPosted)[-1]
    assert isinstance(part, HoldPosted)
    assert (part.amount, part.remaining, part.released) == (25, 0, 35)
    assert posted.accepted()["hold_id"] == hold_id
    assert book.balances("alice") == (75, 75)
    book.post_hold(hold_id, 1).rejected("hold-closed", "/hold_id")


def test_a_part_that_is_not_final_keeps_the_rest(book: Book) -> None:
    hold_id = book.held("alice", "bob", 60)
    book.post_hold(hold_id, 25, final=False).accepted()
    assert book.balances("alice") == (75, 40)
    book.post_hold(hold_id, 36, final=False).rejected("amount-exceeds-hold", "/amount")
    book.post_hold(hold_id, 35, final=False).accepted()
    assert book.balances("alice") == (40, 40)
    book.void_hold(hold_id).rejected("hold-closed", "/hold_id")


def test_a_void_frees_what_is_left(book: Book) -> None:
    hold_id = book.held("alice", "bob", 60)
    book.post_hold(hold_id, 10, final=False).accepted()
    outcome = book.void_hold(hold_id)
    outcome.then(HoldVoided(ledger_id=book.ledger, hold_id=hold_id, released=50))
    assert outcome.accepted() == {"hold_id": hold_id}
    assert book.balances("alice") == (90, 90)
    book.void_hold(hold_id).rejected("hold-closed")


def test_the_deadline_frees_what_is_left(book: Book) -> None:
    deadline = START_US + HOUR_US
    hold_id = book.held("alice", "bob", 60, expires_at=deadline)
    assert book.decider.next_due(book.state) == deadline
    book.at(deadline - 1)
    assert book.run_due() == []
    book.at(deadline)
    (outcome,) = book.run_due()
    outcome.then(HoldExpired(ledger_id=book.ledger, hold_id=hold_id, released=60))
    assert book.balances("alice") == (100, 100)
    assert book.run_due() == []
    book.post_hold(hold_id).rejected("hold-expired", "/hold_id")


def test_past_its_deadline_a_hold_is_not_posted_even_if_nobody_has_recorded_that(book: Book) -> None:
    hold_id = book.held("alice", "bob", 60, expires_at=START_US + HOUR_US)
    book.at(START_US + HOUR_US)
    book.post_hold(hold_id).rejected("hold-expired", "/hold_id")
    assert book.balances("alice") == (100, 40), "only an event frees funds"
    book.void_hold(hold_id).accepted()
    assert book.balances("alice") == (100, 100)


def test_just_before_its_deadline_a_hold_is_posted(book: Book) -> None:
    hold_id = book.held("alice", "bob", 60, expires_at=START_US + HOUR_US)
    book.at(START_US + HOUR_US - 2)
    book.post_hold(hold_id).accepted()
    assert book.decider.next_due(book.state) is None


def test_no_caller_can_expire_a_hold(book: Book) -> None:
    hold_id = book.held("alice", "bob", 60, expires_at=START_US + HOUR_US)
    command = ExpireHold(ledger_id=book.ledger, hold_id=hold_id)
    book.when(command).rejected("internal-command", "/hold_id")
    book.at(START_US + 2 * HOUR_US)
    book.when(command).rejected("internal-command", "/hold_id")
    book.when(command, tenant="other", command_id=expiry_id(hold_id)).rejected("ledger-not-found")


def test_a_timer_that_is_early_or_late_does_nothing(book: Book) -> None:
    hold_id = book.held("alice", "bob", 60, expires_at=START_US + HOUR_US)
    command = ExpireHold(ledger_id=book.ledger, hold_id=hold_id)
    book.when(command, command_id=expiry_id(hold_id)).rejected("hold-not-due", "/hold_id")
    book.void_hold(hold_id).accepted()
    book.at(START_US + HOUR_US)
    book.when(command, command_id=expiry_id(hold_id)).rejected("hold-closed", "/hold_id")


def test_what_a_saga_holds_only_the_saga_posts_or_voids(book: Book) -> None:
    hold_id = book.held("alice", "bob", 60, saga_id=SAGA, expires_at=START_US + HOUR_US)
    book.post_hold(hold_id).rejected("saga-only", "/hold_id")
    book.void_hold(hold_id, saga_id="22222222-2222-5222-8222-222222222222").rejected("saga-only", "/hold_id")
    book.post_hold(hold_id, 20, final=False, saga_id=SAGA).accepted()
    book.at(START_US + HOUR_US)
    (due,) = book.decider.due(book.state, book.now_us, 10)
    assert due.saga_id == SAGA, "the saga hears of the expiry"
    assert due.tenant == "acme"
    book.run_due()
    assert book.log[-1][1].saga_id == SAGA
    assert book.balances("alice") == (80, 80)


def test_reversing_the_posting_of_a_hold_moves_the_money_back_and_opens_nothing(book: Book) -> None:
    hold_id = book.held("alice", "bob", 60)
    transaction_id = book.post_hold(hold_id).accepted()["transaction_id"]
    book.when(ReverseTransaction(ledger_id=book.ledger, transaction_id=transaction_id)).accepted()
    assert book.balances("alice") == (100, 100)
    book.post_hold(hold_id).rejected("hold-closed")
