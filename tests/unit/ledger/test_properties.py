"""Whatever is asked of the ledger, in whatever order: it agrees with the plain model and keeps its promises."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ledger.domain import LedgerDecider
from tests.unit.ledger.program import PROGRAMS, Step, run


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PROGRAMS, st.lists(st.integers(0, 200), min_size=1, max_size=3))
def test_any_program_agrees_with_the_model(program: list[Step], cuts: list[int]) -> None:
    running = run(LedgerDecider(), program, cuts)
    assert running.model.transactions
