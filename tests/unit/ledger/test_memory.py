"""Snapshots, deadlines, closed things and invariants: what the writer's memory is made of."""

from __future__ import annotations

from random import Random

import orjson
import pytest

from events.decider import Emit, EventMeta, InvariantViolationError
from schemas.common.base import MAX_AMOUNT
from schemas.common.outcomes import CommandRefused
from schemas.ledger.commands import PostTransaction, ReverseTransaction
from schemas.ledger.events import EVENTS, Entry, HoldPlaced, HoldVoided, TransactionPosted
from services.ledger import recall
from services.ledger.domain import LedgerDecider
from tests.kit.scenario import START_US
from tests.unit.ledger.book import NOWHERE, Book

SECOND_US = 1_000_000


def test_a_snapshot_keeps_amounts_of_38_digits_exactly() -> None:
    book = Book()
    book.open("universe", floor=-MAX_AMOUNT, ceiling=MAX_AMOUNT)
    for amount in (2**53 + 1, 2**63, MAX_AMOUNT - 2**70):
        book.post("bank", "universe", amount).accepted()
        book.assert_replay_equal()
    book.open("deep")
    book.held("universe", "deep", 10**37)
    again = book.decider.load(book.decider.dump(book.state)).ledgers[book.ledger]
    universe = again.accounts[book.ids["universe"]]
    assert universe.posted == 2**53 + 1 + 2**63 + MAX_AMOUNT - 2**70
    assert universe.available == universe.posted - 10**37
    assert (universe.floor, universe.ceiling) == (-MAX_AMOUNT, MAX_AMOUNT)
    assert type(universe.balance) is type(universe.low) is int


def test_equal_states_have_equal_bytes_whatever_the_order_of_their_history() -> None:
    book = Book()
    book.open("zoe", metadata={"b": "1", "a": "2"})
    ledger = book.state.ledgers[book.ledger]
    before = book.decider.dump(book.state)
    ledger.accounts = dict(reversed(ledger.accounts.items()))
    book["zoe"].metadata = dict(reversed(book["zoe"].metadata.items()))
    assert book.decider.dump(book.state) == before
    assert list(orjson.loads(before)) == ["ledgers"]


def test_a_snapshot_does_not_change_with_what_was_loaded_for_a_command() -> None:
    book = Book()
    original = book.post("bank", "alice", 5).accepted()["transaction_id"]
    before = book.decider.dump(book.state)
    book.decider.hydrate(book.state, original, [(book.log[-1][0].event, book.log[-1][1])])
    assert book.state.originals
    assert book.decider.dump(book.state) == before


def test_only_commands_about_closed_things_need_history() -> None:
    book = Book()
    decider = book.decider
    original = book.post("bank", "alice", 5).accepted()["transaction_id"]
    post = PostTransaction(ledger_id=book.ledger, transaction=book.move("bank", "alice", 1))
    assert decider.needs(post, book.state) == ()
    reversal = ReverseTransaction(ledger_id=book.ledger, transaction_id=original)
    assert decider.needs(reversal, book.state) == (original,)


def test_what_is_loaded_is_bounded_and_the_newest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "KEEP", 3)
    book = Book()
    for _ in range(6):
        original = book.post("bank", "alice", 1).accepted()["transaction_id"]
        book.when(ReverseTransaction(ledger_id=book.ledger, transaction_id=original)).accepted()
        hold_id = book.held("bank", "alice", 1)
        book.post_hold(hold_id).accepted()
        book.post_hold(hold_id).rejected("hold-closed")
    assert len(book.state.originals) == len(book.state.ended) == 3
    assert original in book.state.originals


def test_deadlines_come_earliest_first_and_as_many_as_asked() -> None:
    book = Book()
    rng = Random(1)
    deadlines = [START_US + rng.randrange(1, 500) * SECOND_US for _ in range(60)]
    holds = {book.held("bank", "alice", 1, expires_at=at): at for at in deadlines}
    gone = dict(list(holds.items())[::3])
    for hold_id in gone:
        book.void_hold(hold_id).accepted()
    left = sorted((at, hold_id) for hold_id, at in holds.items() if hold_id not in gone)
    assert book.decider.next_due(book.state) == left[0][0]
    end = START_US + 1_000 * SECOND_US
    for _ in range(2):  # asking changes nothing
        due = [d.command.hold_id for d in book.decider.due(book.state, end, 15)]  # type: ignore[attr-defined]
        assert [holds[i] for i in due] == [at for at, _ in left[:15]]
    assert len(book.decider.due(book.state, left[4][0], 100)) == len(
        [1 for at, _ in left if at <= left[4][0]]
    )
    reloaded = book.decider.load(book.decider.dump(book.state))
    assert book.decider.next_due(reloaded) == left[0][0]
    book.at(end)
    assert len(book.run_due()) == len(left)
    assert book.decider.next_due(book.state) is None
    assert book["alice"].open_holds == 0


def test_deadlines_of_ended_holds_do_not_pile_up() -> None:
    book = Book()
    for number in range(2_500):
        hold_id = f"00000000-0000-8000-8000-{number:012d}"
        placed = HoldPlaced(
            ledger_id=book.ledger,
            hold_id=hold_id,
            debit_account_id=book.ids["bank"],
            credit_account_id=book.ids["alice"],
            amount=1,
            currency="EUR",
            expires_at=START_US + 10**12 + number,
        )
        voided = HoldVoided(ledger_id=book.ledger, hold_id=hold_id, released=1)
        for version, event in enumerate((placed, voided) if number % 100 else (placed,), 1):
            book.decider.evolve(book.state, event, EventMeta(hold_id, version, START_US, "acme", "x"))
    assert len(book.state.ledgers[book.ledger].holds) == 25
    assert len(book.state.deadlines) <= 1_050
    assert len(book.decider.due(book.state, START_US + 10**13, 100)) == 25


def test_one_sided_events_are_stopped_before_they_are_appended() -> None:
    event = TransactionPosted(
        ledger_id="l",
        transaction_id="t",
        entries=[
            Entry(account_id="a", side="debit", amount=5, currency="EUR"),
            Entry(account_id="b", side="credit", amount=5, currency="USD"),
        ],
        effective_at=0,
    )
    with pytest.raises(InvariantViolationError, match="EUR does not sum to zero but to 5"):
        LedgerDecider().check_events([Emit("t", 1, event)])


def test_a_state_that_must_not_exist_is_not_used() -> None:
    book = Book()
    book.post("bank", "alice", 5).accepted()
    book.held("alice", "bob", 3)
    decider = book.decider
    decider.check(book.state)
    for what, spoil, mend in (
        ("EUR does not sum to zero but to 1", {"balance": 1}, {"balance": -1}),
        ("outside its limits", {"high": -10}, {"high": 10}),
        ("other amounts than its open holds", {"pending_debits": 1}, {"pending_debits": -1}),
        ("other amounts than its open holds", {"open_holds": 1}, {"open_holds": -1}),
    ):
        _add(book, spoil)
        with pytest.raises(InvariantViolationError, match=what):
            decider.check(book.state)
        _add(book, mend)
        decider.check(book.state)


def _add(book: Book, changes: dict[str, int]) -> None:
    for name, change in changes.items():
        setattr(book["alice"], name, getattr(book["alice"], name) + change)


def test_a_refusal_that_a_saga_hears_changes_nothing() -> None:
    book = Book()
    assert book.decider.events.keys() == {*EVENTS, "ledger.command-refused.v1"}
    before = book.decider.dump(book.state)
    refused = CommandRefused(
        command_id=NOWHERE, command_type="ledger.place-hold.v1", saga_id=book.ledger, reason="code-taken"
    )
    book.given(Emit(refused.command_id, 1, refused))
    assert book.decider.dump(book.state) == before
