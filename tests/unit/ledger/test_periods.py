"""Closing a period: what may still be entered, by whom, and that the past stays what was reported of it."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from events.decider import Accepted
from schemas.ledger.commands import PostTransaction, ReverseTransaction
from schemas.ledger.events import TransactionPosted
from schemas.ledger.periods import (
    AdjustmentPosted,
    ClosePeriod,
    PeriodClosed,
    PeriodReopened,
    PostAdjustment,
    ReopenPeriod,
)
from services.ledger.balances import balance_as_of
from tests.kit.scenario import START_US, Outcome
from tests.unit.ledger.accounting_refusals import adjust, close
from tests.unit.ledger.book import Book

DAY_US = 86_400_000_000
SECOND_US = 1_000_000


def test_a_soft_close_is_recorded_with_both_marks() -> None:
    book = Book()
    outcome = close(book, START_US)
    assert outcome.accepted() == {"ledger_id": book.ledger, "soft_until": START_US, "hard_until": 0}
    outcome.then(PeriodClosed(ledger_id=book.ledger, closing="soft", soft_until=START_US, hard_until=0))
    book.assert_replay_equal()


def test_what_counts_now_is_never_refused_for_a_close() -> None:
    book = Book()
    book.at(START_US + DAY_US)
    close(book, book.now_us + 1, "hard").accepted()  # up to the very time of the close
    book.post("bank", "alice", 5).accepted()
    book.post("bank", "alice", 5, effective_at=book.now_us).accepted()
    hold_id = book.held("alice", "bob", 3)
    book.post_hold(hold_id).accepted()


def test_an_adjustment_enters_a_soft_closed_period_and_says_why() -> None:
    book = Book()
    close(book, START_US).accepted()
    outcome = adjust(book, START_US - 5)
    result = outcome.accepted()
    posted, event = outcome.decision.events  # type: ignore[union-attr]
    assert isinstance(posted.event, TransactionPosted)
    assert posted.event.effective_at == START_US - 5
    assert event.event == AdjustmentPosted(
        ledger_id=book.ledger,
        adjustment_id=result["adjustment_id"],
        transaction_id=result["transaction_id"],
        effective_at=START_US - 5,
        reason="forgotten",
    )
    book.assert_replay_equal()


def test_a_reversal_counts_now_and_so_leaves_a_closed_period_alone() -> None:
    book = Book()
    posted = book.post("bank", "alice", 5, effective_at=START_US - DAY_US).accepted()["transaction_id"]
    close(book, START_US, "hard").accepted()
    book.when(ReverseTransaction(ledger_id=book.ledger, transaction_id=posted)).accepted()


def test_a_soft_close_is_taken_back_as_far_as_the_hard_one() -> None:
    book = Book()
    close(book, START_US).accepted()
    close(book, START_US - DAY_US, "hard").accepted()
    outcome = book.when(ReopenPeriod(ledger_id=book.ledger, until=START_US - DAY_US))
    outcome.then(
        PeriodReopened(ledger_id=book.ledger, soft_until=START_US - DAY_US, hard_until=START_US - DAY_US)
    )
    book.post("bank", "alice", 1, effective_at=START_US - DAY_US).accepted()
    book.post("bank", "alice", 1, effective_at=START_US - DAY_US - 1).rejected("period-closed")
    book.assert_replay_equal()


def _step(book: Book, rng: Random) -> tuple[str, int, Outcome]:
    """Any of the commands that periods are about, at a time around the marks."""
    at = book.now_us - rng.randrange(-3, 12) * SECOND_US
    kind = rng.choice(["soft", "hard", "reopen", "post", "post", "post", "adjust", "adjust"])
    if kind in ("soft", "hard"):
        return kind, at, book.when(ClosePeriod(ledger_id=book.ledger, until=at, closing=kind))  # type: ignore[arg-type]
    if kind == "reopen":
        return kind, at, book.when(ReopenPeriod(ledger_id=book.ledger, until=at))
    transaction = book.move("bank", "alice", rng.randrange(1, 9), effective_at=at)
    if kind == "adjust":
        command = PostAdjustment(ledger_id=book.ledger, transaction=transaction, reason="x")
        return kind, at, book.when(command)
    return kind, at, book.when(PostTransaction(ledger_id=book.ledger, transaction=transaction))


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_was_reported_of_a_hard_closed_period_is_true_for_ever(rng: Random) -> None:
    """Every report of a time before a hard close equals the same report at the end of the story."""
    book = Book()
    reported: list[tuple[int, int]] = []  # effective time, balance reported for it
    soft = hard = 0
    for _ in range(40):
        book.at(book.now_us + rng.randrange(SECOND_US))
        kind, at, outcome = _step(book, rng)
        accepted = isinstance(outcome.decision, Accepted)
        now = book.now_us
        expected = {
            "soft": soft < at <= now,
            "hard": hard < at <= now,
            "reopen": hard <= at < soft,
            "post": at >= soft,
            "adjust": hard <= at < soft,
        }[kind]
        assert accepted is expected, (kind, at - now, soft - now, hard - now)
        if accepted and kind in ("soft", "hard"):
            soft, hard = max(soft, at), at if kind == "hard" else hard
        if accepted and kind == "reopen":
            soft = at
        if hard:
            when = rng.randrange(hard - 20 * SECOND_US, hard)
            reported.append((when, _balance(book, when)))
    assert all(_balance(book, when) == balance for when, balance in reported)
    ledger = book.state.ledgers[book.ledger]
    assert (ledger.soft_until, ledger.hard_until) == (soft, hard)
    book.assert_replay_equal()


def _balance(book: Book, effective_at: int) -> int:
    history = [(emit.event, meta) for emit, meta in book.log]
    return balance_as_of(history, book.ids["alice"], effective_at=effective_at).posted("credit")


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_balance_at_two_times_is_the_sum_of_what_counted_and_was_known(rng: Random) -> None:
    """Against a list of (effective, recorded, amount) kept beside the ledger: 50 questions for each history."""
    book = Book()
    facts: list[tuple[int, int, int]] = []
    for _ in range(30):
        book.at(book.now_us + rng.randrange(1, SECOND_US))
        at = book.now_us - rng.randrange(-5, 10) * SECOND_US
        amount = rng.randrange(1, 100)
        if isinstance(book.post("bank", "alice", amount, effective_at=at).decision, Accepted):
            facts.append((at, book.now_us, amount))
    history = [(emit.event, meta) for emit, meta in book.log]
    for _ in range(50):
        effective, known = (book.now_us - rng.randrange(-12, 20) * SECOND_US for _ in range(2))
        plain = sum(n for e, r, n in facts if e <= effective and r <= known)
        found = balance_as_of(history, book.ids["alice"], effective_at=effective, known_at=known)
        assert found.posted("credit") == plain
