"""given(what the saga has heard).when(it hears more).then(what it sends, and how it ends)."""

from __future__ import annotations

import pytest

from sagas.payment.flow import Step
from tests.unit.sagas.kit import (
    CASE,
    HOLD,
    LEDGER,
    PAYEE,
    PAYER,
    PAYMENT,
    SECOND,
    SHARD,
    TRANSACTION,
    SagaScenario,
    an_id,
)

SCORE, SCREEN = "ai.score-payment.v1", "compliance.screen-payment.v1"
WITHDRAW = "compliance.withdraw-case.v1"
PLACE, POST, VOID = "ledger.place-hold.v1", "ledger.post-hold.v1", "ledger.void-hold.v1"
RISK, SCREENING, HELD = (
    "payments.record-risk.v1",
    "payments.record-screening.v1",
    "payments.record-hold.v1",
)
POSTED, SETTLE, FAIL = (
    "payments.record-posted.v1",
    "payments.settle-payment.v1",
    "payments.fail-payment.v1",
)


@pytest.fixture
def s() -> SagaScenario:
    return SagaScenario()


def test_the_straight_way(s: SagaScenario) -> None:
    s.initiated()
    assert [c.command_type for c in (s.last(SCORE), s.last(SCREEN))] == [SCORE, SCREEN]
    assert s.scored() == [RISK]
    assert s.screened() == [SCREENING, PLACE]
    assert s.hold_placed() == [HELD, POST]
    assert s.money_moved() == [POSTED, SETTLE]
    assert s.see("payments.payment-settled.v1", payment_id=PAYMENT, rail="book") == []
    ended = s.ended()
    assert (ended.saga_id, ended.outcome, ended.reason) == (PAYMENT, "settled", None)
    assert ended.token == {"payments/5": 2, "ai/5": 1, "compliance/5": 1, "ledger/5": 2}
    assert not s.memory.flows


def test_what_each_partner_is_told(s: SagaScenario) -> None:
    s.settled()
    assert s.last(SCORE).data == {
        "payment_id": PAYMENT,
        "payer_account_id": PAYER,
        "payee_account_id": PAYEE,
        "device_id": "phone-1",
        "amount": 10**20,
        "currency": "ETH",
    }
    assert s.last(SCREEN).data["subjects"] == [
        {"role": "payer", "name": "Ada", "country": "GB"},
        {"role": "payee", "name": "Charles", "country": None},
    ]
    place = s.last(PLACE).data
    assert (place["debit_account_id"], place["credit_account_id"]) == (PAYER, PAYEE)
    assert (place["ledger_id"], place["amount"], place["reference"]) == (LEDGER, 10**20, PAYMENT)
    assert place["expires_at"] > s.now_us + 3_000 * SECOND
    assert s.last(POST).data["hold_id"] == HOLD
    assert s.last(POSTED).data == {"payment_id": PAYMENT, "transaction_id": TRANSACTION}
    assert s.last(SETTLE).data == {"payment_id": PAYMENT, "rail": "book"}
    assert {c.tenant for c in s.all(PLACE)} == {"acme"}
    targets = {c: (s.last(c).target, s.last(c).shard) for c in (SCORE, SCREEN, PLACE, SETTLE)}
    assert targets == {
        SCORE: ("ai", SHARD % 2),
        SCREEN: ("compliance", SHARD % 2),
        PLACE: ("ledger", SHARD),
        SETTLE: ("payments", SHARD),
    }


def test_score_and_screening_come_in_any_order(s: SagaScenario) -> None:
    s.initiated()
    assert s.screened() == [SCREENING]
    assert s.scored() == [RISK, PLACE]


# ------------------------------------------------------------------ risk and sanctions


@pytest.mark.parametrize("first", ["score", "screening"])
def test_denied_by_risk_once_both_are_heard(s: SagaScenario, first: str) -> None:
    s.initiated()
    if first == "score":
        assert s.scored("deny") == [RISK]
        assert s.screened() == [SCREENING, FAIL]
    else:
        s.screened()
        assert s.scored("deny") == [RISK, FAIL]
    assert s.last(FAIL).data | {"detail": ""} == {
        "payment_id": PAYMENT,
        "outcome": "rejected",
        "reason": "risk-denied",
        "detail": "",
    }
    s.payment_failed()
    assert (s.ended().outcome, s.ended().reason) == ("rejected", "risk-denied")


def test_denied_by_risk_withdraws_the_case(s: SagaScenario) -> None:
    s.initiated()
    s.screened("hit")
    assert s.scored("deny") == [RISK, FAIL, WITHDRAW]
    s.payment_failed()
    assert PAYMENT in s.memory.flows  # the case is open still
    s.see("compliance.case-withdrawn.v1", case_id=CASE, payment_id=PAYMENT)
    assert s.ended().reason == "risk-denied"


def test_a_hit_waits_for_an_officer_who_releases(s: SagaScenario) -> None:
    s.initiated().scored()
    assert s.screened("hit") == [SCREENING]
    assert s.last(SCREENING).data == {"payment_id": PAYMENT, "outcome": "review", "case_id": CASE}
    assert s.flow.step == Step.REVIEW
    assert s.decided("release") == [SCREENING, PLACE]
    assert s.last(SCREENING).data["outcome"] == "released"


def test_a_hit_waits_for_an_officer_who_blocks(s: SagaScenario) -> None:
    s.initiated().scored()
    s.screened("hit")
    assert s.decided("block") == [SCREENING, FAIL]
    assert s.last(SCREENING).data["outcome"] == "blocked"
    s.payment_failed()
    assert (s.ended().outcome, s.ended().reason) == ("rejected", "sanctions-blocked")


def test_an_officer_quicker_than_the_score(s: SagaScenario) -> None:
    s.initiated()
    s.screened("hit")
    assert s.decided("release") == [SCREENING]
    assert s.scored() == [RISK, PLACE]


def test_blocked_before_the_score_is_known(s: SagaScenario) -> None:
    s.initiated()
    s.screened("hit")
    assert s.decided("block") == [SCREENING, FAIL]


def test_a_decision_before_its_screening(s: SagaScenario) -> None:
    s.initiated().scored()
    assert s.decided("release") == [SCREENING, SCREENING, PLACE]
    assert [c.data["outcome"] for c in s.all(SCREENING)] == ["review", "released"]
    assert s.screened("hit") == []


def test_a_review_that_nobody_decides_times_out(s: SagaScenario) -> None:
    s.initiated().scored()
    s.screened("hit")
    due = s.decider.due(s.state, s.now_us + 31 * 24 * 3600 * SECOND, 5)
    assert [d.command.model_dump()["timer"] for d in due] == ["review"]
    assert s.pass_deadline() == [FAIL, WITHDRAW]
    assert s.decided("release") == []  # too late for the payment; the case is closed by it
    s.payment_failed()
    assert (s.ended().outcome, s.ended().reason) == ("failed", "timeout-review")


def test_a_withdrawal_refused_because_the_case_is_closed(s: SagaScenario) -> None:
    s.initiated().scored()
    s.screened("hit")
    s.cancelled()
    s.payment_failed()
    s.refuse(WITHDRAW, "case-closed")
    assert s.ended().outcome == "cancelled"


# ------------------------------------------------------------------ refusals reach the saga at once


def test_the_ledger_refuses_to_hold(s: SagaScenario) -> None:
    s.holding()
    assert s.refuse(PLACE, "insufficient-funds") == [FAIL]
    assert s.last(FAIL).data == {
        "payment_id": PAYMENT,
        "outcome": "rejected",
        "reason": "insufficient-funds",
        "detail": "because",
    }
    s.payment_failed()
    assert (s.ended().outcome, s.ended().reason) == ("rejected", "insufficient-funds")


def test_the_ledger_refuses_to_post_and_the_hold_is_voided(s: SagaScenario) -> None:
    s.posting()
    assert s.refuse(POST, "account-closed") == [VOID]
    assert s.see("ledger.hold-voided.v1", hold_id=HOLD, ledger_id=LEDGER) == [FAIL]
    s.payment_failed()
    assert (s.ended().outcome, s.ended().reason) == ("rejected", "account-closed")


@pytest.mark.parametrize("reason", ["hold-closed", "hold-expired", "hold-not-found"])
def test_a_refused_void_means_that_nothing_is_held(s: SagaScenario, reason: str) -> None:
    s.posting()
    s.refuse(POST, reason)
    assert s.refuse(VOID, "ledger-not-found") == []  # tells nothing about the hold
    assert s.refuse(VOID, reason) == [FAIL]
    s.payment_failed()
    assert s.ended().outcome == "failed"


@pytest.mark.parametrize(("command", "service"), [(SCORE, "ai"), (SCREEN, "compliance")])
def test_risk_or_compliance_refuses(s: SagaScenario, command: str, service: str) -> None:
    s.initiated()
    sent = s.refuse(command, "not-loaded")
    sent += s.screened() if service == "ai" else s.scored()
    assert FAIL in sent
    assert PLACE not in sent
    s.payment_failed()
    assert (s.ended().outcome, s.ended().reason) == ("failed", "not-loaded")


@pytest.mark.parametrize("kind", ["hold-expired", "hold-voided"])
def test_a_hold_that_is_lost_before_posting(s: SagaScenario, kind: str) -> None:
    s.posting()
    assert s.see(f"ledger.{kind}.v1", hold_id=HOLD, ledger_id=LEDGER) == [FAIL]
    assert s.refuse(POST, kind) == []
    s.payment_failed()
    assert (s.ended().outcome, s.ended().reason) == ("failed", kind)


# ------------------------------------------------------------------ cancelling


def test_cancelled_while_clearing_waits_for_the_screening(s: SagaScenario) -> None:
    s.initiated()
    assert s.cancelled() == []
    assert s.scored() == [RISK]
    assert s.screened("hit") == [SCREENING, FAIL, WITHDRAW]
    s.see("compliance.case-withdrawn.v1", case_id=CASE, payment_id=PAYMENT)
    s.payment_failed()
    assert (s.ended().outcome, s.ended().reason) == ("cancelled", "cancelled-by-caller")


def test_cancelled_when_the_screening_is_known(s: SagaScenario) -> None:
    s.initiated()
    s.screened()
    assert s.cancelled() == [FAIL]


def test_cancelled_in_review(s: SagaScenario) -> None:
    s.initiated().scored()
    s.screened("hit")
    assert s.cancelled() == [FAIL, WITHDRAW]
    assert s.decided("release") == []
    s.payment_failed()
    assert s.ended().outcome == "cancelled"


def test_cancelled_while_holding_voids_the_hold(s: SagaScenario) -> None:
    s.holding()
    assert s.cancelled() == []
    assert s.hold_placed() == [VOID]
    assert s.see("ledger.hold-voided.v1", hold_id=HOLD, ledger_id=LEDGER) == [FAIL]
    s.payment_failed()
    assert s.ended().outcome == "cancelled"


def test_cancelled_while_holding_and_refused_by_the_ledger(s: SagaScenario) -> None:
    s.holding()
    s.cancelled()
    assert s.refuse(PLACE, "insufficient-funds") == [FAIL]
    assert s.last(FAIL).data["outcome"] == "cancelled"


def test_a_cancellation_after_post_hold_was_sent_is_too_late(s: SagaScenario) -> None:
    s.posting()
    assert s.cancelled() == []
    assert s.money_moved() == [POSTED, SETTLE]
    assert s.cancelled() == []
    s.see("payments.payment-settled.v1", payment_id=PAYMENT, rail="book")
    assert s.ended().outcome == "settled"


def test_cancelling_twice_is_cancelling_once(s: SagaScenario) -> None:
    s.holding()
    s.cancelled()
    before = len(s.log)
    assert s.cancelled() == []
    assert len(s.log) == before


# ------------------------------------------------------------------ events that do not fit, and after the end


def test_repeated_events_change_nothing(s: SagaScenario) -> None:
    s.settled()
    before = len(s.log)
    for repeat in (s.scored, s.screened, s.money_moved, s.cancelled):
        assert repeat() == []
    s.see("payments.payment-settled.v1", payment_id=PAYMENT, rail="book")
    s.refuse(SETTLE, "payment-posted")
    assert len(s.log) == before


def test_events_of_another_hold_are_not_ours(s: SagaScenario) -> None:
    s.posting()
    other = an_id("other")
    assert s.see("ledger.hold-voided.v1", hold_id=other) == []
    assert s.see("ledger.transaction-posted.v1", transaction_id=TRANSACTION, hold_id=other) == []
    assert s.flow.step == Step.POSTING


def test_a_hold_that_turns_up_after_the_end_is_voided(s: SagaScenario) -> None:
    s.initiated()
    s.screened()
    s.cancelled()
    s.payment_failed()
    s.state = s.decider.load(s.decider.dump(s.state))  # the ended saga has left memory
    assert s.hold_placed() == [VOID]
    assert s.last(VOID).data == {"ledger_id": LEDGER, "hold_id": HOLD, "reason": "payment-ended"}


def test_a_case_that_turns_up_after_the_end_is_withdrawn(s: SagaScenario) -> None:
    s.initiated()
    s.screened()
    s.cancelled()
    s.payment_failed()
    s.state = s.decider.load(s.decider.dump(s.state))
    assert s.screened("hit") == [WITHDRAW]
    assert s.screened("clear") == []


def test_an_old_payment_is_not_begun_again(s: SagaScenario) -> None:
    """A relay that publishes all of history again meets sagas that the engine has forgotten."""
    s.settled()
    s.state = s.decider.load(s.decider.dump(s.state))
    old = s.now_us
    s.at(s.now_us + 100 * 24 * 3600 * SECOND)
    s.memory.clock_us = s.now_us
    log = len(s.log)
    s.now_us = old
    assert s.see("payments.payment-initiated.v1", payment_id=PAYMENT) == []
    assert len(s.log) == log


def test_events_for_no_saga_are_ignored(s: SagaScenario) -> None:
    assert s.hold_placed() == []
    assert s.money_moved() == []
    assert s.log == []


def test_settlement_and_failure_that_were_recorded_before_end_the_saga(s: SagaScenario) -> None:
    s.posting().money_moved()
    assert s.refuse(SETTLE, "payment-not-posted") == []
    assert s.flow.step == Step.SETTLING
    s.refuse(SETTLE, "payment-posted")
    assert s.ended().outcome == "settled"

    other = SagaScenario()
    other.holding().refuse(PLACE, "insufficient-funds")
    other.refuse(FAIL, "payment-closed")
    assert other.ended().outcome == "rejected"
