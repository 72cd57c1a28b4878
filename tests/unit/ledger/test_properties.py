"""Whatever is asked of the ledger, in whatever order: it agrees with the plain model and keeps its promises."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.ledger.events import TransactionPosted
from services.ledger.balances import BalanceAsOf, balance_as_of
from services.ledger.domain import LedgerDecider
from tests.unit.ledger.book import Book
from tests.unit.ledger.program import PROGRAMS, Step, make_program, run


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(PROGRAMS, st.lists(st.integers(0, 99), min_size=1, max_size=2))
def test_any_program_agrees_with_the_model(program: list[Step], cuts: list[int]) -> None:
    run(LedgerDecider(), program, cuts)
    assert program


@pytest.mark.parametrize("seed", range(5))
def test_a_long_program_agrees_with_the_model_and_any_cut_of_it(seed: int) -> None:
    running = run(LedgerDecider(), make_program(Random(seed), 120), [])
    running.check_cuts(list(range(0, len(running.scenario.log), 7)))
    assert len(running.scenario.log) > 35


_TIME = st.integers(0, 30)
_POSTING = st.tuples(st.sampled_from(["alice", "bob"]), st.integers(1, 9), _TIME)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(_POSTING, min_size=1, max_size=8), _TIME, st.integers(0, 9), st.sampled_from(["alice", "bob"])
)
def test_a_balance_in_two_times_equals_what_was_effective_and_known(
    postings: list[tuple[str, int, int]], effective_at: int, known: int, code: str
) -> None:
    book = Book()
    recorded = []
    for target, amount, effective in postings:
        book.post("bank", target, amount, effective_at=effective).accepted()
        recorded.append((target, amount, effective, book.now_us))
    history = [(emit.event, meta) for emit, meta in book.log]
    known_at = recorded[known % len(recorded)][3]
    expected = sum(
        amount
        for target, amount, effective, at in recorded
        if target == code and effective <= effective_at and at <= known_at
    )
    balance = balance_as_of(history, book.ids[code], effective_at=effective_at, known_at=known_at)
    assert balance == BalanceAsOf(debits=0, credits=expected)
    assert balance.posted("credit") == expected == -balance.posted("debit")


def test_the_balance_in_two_times_of_all_times_is_the_balance_in_memory() -> None:
    scenario = run(LedgerDecider(), make_program(Random(11), 120), []).scenario
    history = [(emit.event, meta) for emit, meta in scenario.log]
    assert any(isinstance(event, TransactionPosted) for event, _ in history)
    for ledger in scenario.state.ledgers.values():
        for account in ledger.accounts.values():
            assert balance_as_of(history, account.id).posted(account.normal_side) == account.posted
