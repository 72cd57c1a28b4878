"""given(events).when(command).then(events) for every transition of a payment and every refusal."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from events.decider import Accepted, Claim
from schemas.payments import commands as c
from schemas.payments import events as e
from services.payments import domain
from services.payments.reasons import REASONS
from tests.unit.payments.kit import (
    CASE,
    HOLD,
    LEDGER,
    PAYEE,
    PAYER,
    TRANSACTION,
    PaymentScenario,
    an_id,
    initiate,
)


@pytest.fixture
def s() -> PaymentScenario:
    return PaymentScenario()


# ------------------------------------------------------------------ initiating


def test_a_payment_is_initiated_with_all_its_parts(s: PaymentScenario) -> None:
    outcome = s.when(initiate(external_reference="inv-7", description="hi", metadata={"k": "v"}))
    event = outcome.then(e.PaymentInitiated).scenario.log[0][0].event
    assert isinstance(event, e.PaymentInitiated)
    assert event.payment_id == outcome.accepted()["payment_id"]
    assert (event.ledger_id, event.amount, event.currency) == (LEDGER, 1250, "EUR")
    assert (event.payer.account_id, event.payee.account_id) == (PAYER, PAYEE)
    assert (event.external_reference, event.description, event.metadata) == ("inv-7", "hi", {"k": "v"})


def test_an_external_reference_is_claimed_for_the_tenant(s: PaymentScenario) -> None:
    decision = s.when(initiate(external_reference="inv-7"), tenant="acme").decision
    assert isinstance(decision, Accepted)
    assert decision.claims == [
        Claim("external-reference/acme", "inv-7", decision.result["payment_id"], "/external_reference")
    ]
    without = s.when(initiate()).decision
    assert isinstance(without, Accepted)
    assert without.claims == []


@pytest.mark.parametrize(
    ("changes", "reason", "pointer"),
    [
        ({"payee": {"account_id": PAYER, "name": "Ada"}}, "same-account", "/payee/account_id"),
        ({"currency": "XXZ"}, "unknown-currency", "/currency"),
        ({"ledger_id": "00000000-0000-4000-8000-000000000000"}, "ledger-not-found", "/ledger_id"),
        (
            {"payee": {"account_id": "00000000-0000-4000-8000-000000000000", "name": "A"}},
            "account-not-found",
            "/payee/account_id",
        ),
        (
            {"payee": {"account_id": an_id("x", 6), "name": "A"}},
            "cross-ledger-not-supported",
            "/payee/account_id",
        ),
        (
            {"payer": {"account_id": an_id("x", 6), "name": "A"}},
            "cross-ledger-not-supported",
            "/payer/account_id",
        ),
        ({"ledger_id": an_id("other", 6)}, "cross-ledger-not-supported", "/payer/account_id"),
    ],
)
def test_what_can_not_be_paid_is_refused(
    s: PaymentScenario, changes: dict[str, Any], reason: str, pointer: str
) -> None:
    s.when(initiate(**changes)).rejected(reason, pointer)


# ------------------------------------------------------------------ the straight way


def test_the_straight_way_ends_settled(s: PaymentScenario) -> None:
    s.initiated()
    s.saga(c.RecordRisk, score_bp=120, decision="allow").then(
        e.PaymentScored(payment_id=s.payment_id, score_bp=120, decision="allow")
    )
    s.saga(c.RecordScreening, outcome="clear").then(
        e.PaymentScreened(payment_id=s.payment_id, outcome="clear")
    )
    s.saga(c.RecordHold, hold_id=HOLD).then(e.PaymentHeld(payment_id=s.payment_id, hold_id=HOLD))
    s.saga(c.RecordPosted, transaction_id=TRANSACTION).then(
        e.PaymentPosted(payment_id=s.payment_id, transaction_id=TRANSACTION)
    )
    s.saga(c.SettlePayment).then(e.PaymentSettled(payment_id=s.payment_id, rail="book"))
    assert not s.memory.under_way
    s.assert_replay_equal()


def test_risk_and_screening_come_in_any_order(s: PaymentScenario) -> None:
    s.initiated()
    s.saga(c.RecordScreening, outcome="clear").accepted()
    s.saga(c.RecordHold, hold_id=HOLD).rejected("payment-not-cleared")
    s.saga(c.RecordRisk, score_bp=1, decision="allow").accepted()
    s.saga(c.RecordHold, hold_id=HOLD).accepted()


def test_a_payment_in_review_waits_for_release(s: PaymentScenario) -> None:
    s.initiated()
    s.saga(c.RecordRisk, score_bp=1, decision="allow").accepted()
    s.saga(c.RecordScreening, outcome="released").rejected("payment-not-in-review")
    s.saga(c.RecordScreening, outcome="review", case_id=CASE).then(
        e.PaymentScreened(payment_id=s.payment_id, outcome="review", case_id=CASE)
    )
    s.saga(c.RecordHold, hold_id=HOLD).rejected("payment-not-cleared")
    s.saga(c.RecordScreening, outcome="review", case_id=CASE).rejected("already-recorded")
    s.saga(c.RecordScreening, outcome="released", case_id=CASE).accepted()
    s.saga(c.RecordScreening, outcome="blocked", case_id=CASE).rejected("already-recorded")
    s.saga(c.RecordHold, hold_id=HOLD).accepted()


def test_a_blocked_or_denied_payment_can_not_be_held(s: PaymentScenario) -> None:
    s.initiated()
    s.saga(c.RecordRisk, score_bp=1, decision="allow").accepted()
    s.saga(c.RecordScreening, outcome="review", case_id=CASE).accepted()
    s.saga(c.RecordScreening, outcome="blocked", case_id=CASE).accepted()
    s.saga(c.RecordHold, hold_id=HOLD).rejected("payment-not-cleared")
    s.failed(reason="sanctions-blocked")

    s.initiated()
    s.saga(c.RecordScreening, outcome="clear").accepted()
    s.saga(c.RecordRisk, score_bp=9_900, decision="deny").accepted()
    s.saga(c.RecordHold, hold_id=HOLD).rejected("payment-not-cleared")


@pytest.mark.parametrize("outcome", ["rejected", "cancelled", "failed"])
@pytest.mark.parametrize("before", ["initiated", "held"])
def test_it_ends_without_money_from_every_state_before_posting(
    s: PaymentScenario, outcome: str, before: str
) -> None:
    s.initiated()
    if before == "held":
        s.held()
    s.failed(outcome, "some-reason")
    assert not s.memory.under_way
    assert s.log[-1][0].event == e.PaymentFailed(
        payment_id=s.payment_id,
        outcome=outcome,
        reason="some-reason",
    )
    s.assert_replay_equal()


# ------------------------------------------------------------------ facts out of turn


FACTS: list[tuple[type[Any], dict[str, Any]]] = [
    (c.RecordRisk, {"score_bp": 1, "decision": "allow"}),
    (c.RecordScreening, {"outcome": "clear"}),
    (c.RecordHold, {"hold_id": HOLD}),
    (c.RecordPosted, {"transaction_id": TRANSACTION}),
    (c.SettlePayment, {}),
    (c.FailPayment, {"outcome": "failed", "reason": "x"}),
    (c.RecordRefund, {"refund_id": an_id("r"), "transaction_id": TRANSACTION}),
]


NO = "refund-not-found"


@pytest.mark.parametrize(("command", "fields"), FACTS)
def test_only_the_own_saga_tells_facts(
    s: PaymentScenario, command: type[Any], fields: dict[str, Any]
) -> None:
    s.initiated()
    s.caller(command, **fields).rejected("saga-only")
    s.when(command(payment_id=s.payment_id, **fields), saga_id=an_id("another")).rejected("saga-only")
    s.when(command(payment_id=an_id("nowhere"), **fields)).rejected("saga-only")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        # risk, screening, hold, posted, settle, fail, refund
        (
            "initiated",
            [None, None, "payment-not-cleared", "payment-not-held", "payment-not-posted", None, NO],
        ),
        ("held", ["already-recorded"] * 3 + [None, "payment-not-posted", None, NO]),
        ("posted", ["already-recorded"] * 4 + [None, "payment-posted", NO]),
        ("settled", ["payment-posted"] * 6 + [NO]),
        ("failed", ["payment-closed"] * 6 + [NO]),
    ],
)
def test_each_fact_in_each_state(state: str, expected: list[Any]) -> None:
    for (command, fields), reason in zip(FACTS, expected, strict=True):
        s = PaymentScenario().initiated()
        if state != "initiated":
            getattr(s, state)()
        outcome = s.saga(command, **fields)
        if reason is None:
            outcome.accepted()
        else:
            outcome.rejected(reason)


def test_cancelled_only_when_somebody_asked(s: PaymentScenario) -> None:
    s.initiated()
    s.saga(c.FailPayment, outcome="cancelled", reason="x").rejected("cancellation-not-requested")


# ------------------------------------------------------------------ cancelling


@pytest.mark.parametrize("before", ["initiated", "held"])
def test_cancelling_is_a_request_and_asking_again_changes_nothing(s: PaymentScenario, before: str) -> None:
    s.initiated()
    if before == "held":
        s.held()
    s.caller(c.CancelPayment, reason="changed my mind").then(
        e.CancellationRequested(payment_id=s.payment_id, reason="changed my mind")
    )
    again = s.caller(c.CancelPayment).then()
    assert again.accepted() == {"payment_id": s.payment_id}
    s.saga(c.FailPayment, outcome="cancelled", reason="cancelled-by-caller").accepted()
    s.caller(c.CancelPayment).then()
    s.assert_replay_equal()


def test_a_cancellation_that_loses_the_race_ends_settled(s: PaymentScenario) -> None:
    s.initiated().held()
    s.caller(c.CancelPayment).accepted()
    s.saga(c.RecordPosted, transaction_id=TRANSACTION).accepted()
    s.caller(c.CancelPayment).rejected("payment-posted")
    s.saga(c.FailPayment, outcome="cancelled", reason="x").rejected("payment-posted")
    s.saga(c.SettlePayment).accepted()
    s.caller(c.CancelPayment).rejected("payment-posted")


@pytest.mark.parametrize("outcome", ["rejected", "failed"])
def test_what_ended_otherwise_can_not_be_cancelled(s: PaymentScenario, outcome: str) -> None:
    s.initiated().failed(outcome)
    s.caller(c.CancelPayment).rejected("payment-closed")


# ------------------------------------------------------------------ tenants


@pytest.mark.parametrize("state", ["initiated", "settled", "failed"])
def test_another_tenants_payment_does_not_exist(s: PaymentScenario, state: str) -> None:
    s.initiated()
    if state != "initiated":
        getattr(s, state)()
    for command in (c.CancelPayment, c.RefundPayment):
        foreign = s.when(command(payment_id=s.payment_id), tenant="evil").rejected("payment-not-found")
        nothing = s.when(command(payment_id=an_id("no")), tenant="evil").rejected("payment-not-found")
        assert foreign == nothing  # not even the wording tells them apart
    for command, fields in FACTS:
        s.when(command(payment_id=s.payment_id, **fields), tenant="evil", saga_id=s.payment_id).rejected(
            "payment-not-found"
        )


def test_every_reason_in_the_table_is_used_and_no_other() -> None:
    """The table is the contract: a code in the source that is not in it, or the reverse, fails here."""
    tree = ast.parse(Path(domain.__file__).read_text(encoding="utf-8"))
    used = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "_refuse"
        and isinstance(node.args[0], ast.Constant)
    }
    conditional = {"payment-closed"}  # inside a conditional expression
    engine = {"already-claimed"}
    assert used | conditional | engine == set(REASONS)
