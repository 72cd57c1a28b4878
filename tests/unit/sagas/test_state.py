"""What a saga remembers, what it forgets, and the reasons that it gives."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sagas.payment
from sagas.payment.flow import PaymentFlow, Step, flow_from_dict
from sagas.reasons import REASONS
from schemas.sagas.events import SagaEnded, SagaStepped
from tests.unit.sagas.kit import LEDGER, PAYEE, PAYER, PAYMENT, SagaScenario


@pytest.fixture
def s() -> SagaScenario:
    return SagaScenario()


def test_names_are_forgotten_once_they_are_screened(s: SagaScenario) -> None:
    s.initiated()
    assert "Ada" in str(s.flow.to_dict())
    s.scored()
    s.screened()
    assert "Ada" not in str(s.flow.to_dict())
    assert b"Ada" not in s.decider.dump(s.state)


def test_every_step_is_told_with_the_state_that_it_leads_to(s: SagaScenario) -> None:
    s.posting()
    steps = [e.event for e, _ in s.log if isinstance(e.event, SagaStepped)]
    assert [x.state["step"] for x in steps] == ["clearing", "clearing", "holding", "posting"]
    assert [x.state["number"] for x in steps] == [1, 2, 3, 4]
    assert all(x.deadline_us == x.state["deadline_us"] for x in steps)
    assert flow_from_dict(steps[-1].state) == s.flow
    assert flow_from_dict({**steps[-1].state, "of-the-future": 1}) == s.flow
    s.assert_replay_equal()
    assert not any(isinstance(e.event, SagaEnded) for e, _ in s.log)


def test_every_reason_of_the_saga_is_in_its_table() -> None:
    """Literal reasons in the source, and the table: the same."""
    used: set[str] = set()
    for path in Path(sagas.payment.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Ending":
                literals = [
                    c.value for a in node.args[1:2] for c in ast.walk(a) if isinstance(c, ast.Constant)
                ]
                used |= {x for x in literals if isinstance(x, str) and "-" in x}
    lost = {"hold-voided", "hold-expired"}  # given to _hold_gone
    assert used | lost == set(REASONS)


def test_a_flow_is_copied_before_it_changes() -> None:
    flow = PaymentFlow(PAYMENT, "acme", LEDGER, PAYER, PAYEE, 1, "EUR", 0)
    copy = flow.copy()
    copy.seen["ledger/1"] = 5
    copy.step = Step.POSTING
    assert (flow.seen, flow.step) == ({}, Step.CLEARING)
