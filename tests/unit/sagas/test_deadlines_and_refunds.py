"""Deadlines: ask again, undo, never leave a hold; late and repeated ones do nothing. And refunds."""

from __future__ import annotations

import pytest

from sagas.payment.flow import RefundStep, Step
from sagas.payment.policy import Policy
from tests.unit.sagas.kit import (
    CASE,
    HOLD,
    LEDGER,
    PAYEE,
    PAYER,
    PAYMENT,
    REFUND,
    REFUND_REQUESTED,
    SECOND,
    TRANSACTION,
    SagaScenario,
    an_id,
)
from tests.unit.sagas.test_payment_flow import (
    FAIL,
    HELD,
    PLACE,
    POST,
    POSTED,
    RISK,
    SCORE,
    SCREEN,
    SCREENING,
    SETTLE,
    VOID,
    WITHDRAW,
)

MOVE, RECORD = "ledger.post-transaction.v1", "payments.record-refund.v1"


@pytest.fixture
def s() -> SagaScenario:
    return SagaScenario()


# ------------------------------------------------------------------ asking again


def test_a_lost_command_is_sent_again_with_the_same_id(s: SagaScenario) -> None:
    s.initiated()
    assert s.pass_deadline() == [SCORE, SCREEN]
    s.scored()
    assert s.pass_deadline() == [SCREEN]
    for command in (SCORE, SCREEN):
        assert len({c.command_id for c in s.all(command)}) == 1
    s.screened()
    assert s.pass_deadline() == [PLACE]
    assert len({c.command_id for c in s.all(PLACE)}) == 1
    assert s.all(PLACE)[0].data == s.all(PLACE)[1].data  # the expiry too
    s.hold_placed()
    assert s.pass_deadline() == [POST]
    assert len({c.command_id for c in s.all(POST)}) == 1


def test_what_can_be_asked_is_asked_under_a_new_id(s: SagaScenario) -> None:
    s.posting().money_moved()
    assert s.pass_deadline() == [RISK, SCREENING, HELD, POSTED, SETTLE]
    assert s.pass_deadline() == [RISK, SCREENING, HELD, POSTED, SETTLE]
    for command in (HELD, POSTED, SETTLE):
        assert len({c.command_id for c in s.all(command)}) == len(s.all(command))
    s.see("payments.payment-settled.v1", payment_id=PAYMENT, rail="book")
    assert s.ended().outcome == "settled"


def test_a_reviewed_payment_is_told_all_of_its_screening_again(s: SagaScenario) -> None:
    s.initiated().scored()
    s.screened("hit")
    s.decided("release")
    s.hold_placed()
    s.money_moved()
    assert s.pass_deadline() == [RISK, SCREENING, SCREENING, HELD, POSTED, SETTLE]
    assert [c.data["outcome"] for c in s.all(SCREENING)[-2:]] == ["review", "released"]


# ------------------------------------------------------------------ giving up


@pytest.mark.parametrize(
    ("score", "screen", "reason", "outcome"),
    [
        (None, None, "timeout-screening", "failed"),
        (None, "clear", "timeout-score", "failed"),
        ("allow", None, "timeout-screening", "failed"),
        ("deny", None, "risk-denied", "rejected"),
    ],
)
def test_clearing_is_given_up(
    s: SagaScenario, score: str | None, screen: str | None, reason: str, outcome: str
) -> None:
    s.initiated()
    if score:
        s.scored(score)
    if screen:
        s.screened(screen)
    sent = [s.pass_deadline() for _ in range(4)]
    assert FAIL in sent[3]
    assert all(FAIL not in x for x in sent[:3])
    if not screen:
        assert s.screened("hit") == [WITHDRAW]  # a case that opens late is not left behind
        s.see("compliance.case-withdrawn.v1", case_id=CASE, payment_id=PAYMENT)
    s.payment_failed()
    assert (s.ended().outcome, s.ended().reason) == (outcome, reason)


def test_a_hold_that_was_never_answered_is_waited_for_until_it_has_expired(s: SagaScenario) -> None:
    s.holding()
    expires = s.last(PLACE).data["expires_at"]
    while True:
        sent = s.pass_deadline()
        if sent != [PLACE]:
            break
    assert sent == [FAIL]
    assert s.now_us > expires + 60 * SECOND
    assert s.hold_placed() == [VOID]  # even then
    s.payment_failed()
    assert (s.ended().outcome, s.ended().reason) == ("failed", "timeout-hold")


def test_a_hold_that_is_answered_after_giving_up_is_voided(s: SagaScenario) -> None:
    s.holding()
    for _ in range(5):
        assert s.pass_deadline() == [PLACE]
    assert s.hold_placed() == [VOID]
    assert s.see("ledger.hold-voided.v1", hold_id=HOLD) == [FAIL]
    s.payment_failed()
    assert (s.ended().outcome, s.ended().reason) == ("failed", "timeout-hold")


def test_posting_that_is_not_answered_is_voided(s: SagaScenario) -> None:
    s.posting()
    assert [s.pass_deadline() for _ in range(5)] == [[POST], [POST], [POST], [VOID], [VOID]]
    assert len({c.command_id for c in s.all(VOID)}) == 2
    assert s.see("ledger.hold-voided.v1", hold_id=HOLD) == [FAIL]
    s.payment_failed()
    assert (s.ended().outcome, s.ended().reason) == ("failed", "timeout-post")


def test_posted_after_all_goes_forward(s: SagaScenario) -> None:
    s.posting()
    for _ in range(4):
        s.pass_deadline()
    assert s.flow.step == Step.VOIDING
    assert s.money_moved() == [POSTED, SETTLE]
    assert s.refuse(VOID, "hold-closed") == []
    s.see("payments.payment-settled.v1", payment_id=PAYMENT, rail="book")
    assert s.ended().outcome == "settled"


def test_failing_is_told_until_it_is_known(s: SagaScenario) -> None:
    s.initiated().scored()
    s.screened("hit")
    s.cancelled()
    assert [s.pass_deadline() for _ in range(6)] == [[FAIL, WITHDRAW]] * 6
    s.payment_failed()
    assert s.pass_deadline() == [WITHDRAW]
    s.see("compliance.case-withdrawn.v1", case_id=CASE, payment_id=PAYMENT)
    assert s.ended().outcome == "cancelled"


def test_the_policy_sets_the_bounds() -> None:
    s = SagaScenario(Policy(step_timeout_us=5, retries=0, review_timeout_us=50, hold_life_us=500))
    s.holding()
    assert s.last(PLACE).data["expires_at"] < s.now_us + 501
    assert s.flow.deadline_us is not None
    assert s.flow.deadline_us - s.now_us <= 5
    s.hold_placed()
    assert s.pass_deadline() == [VOID]


# ------------------------------------------------------------------ R13: late and repeated deadlines


@pytest.mark.parametrize(
    "where", ["clearing", "review", "holding", "posting", "voiding", "settling", "failing"]
)
def test_a_thousand_late_and_a_thousand_repeated_deadlines_do_nothing(s: SagaScenario, where: str) -> None:
    s.initiated()
    if where == "review":
        s.scored()
        s.screened("hit")
    elif where != "clearing":
        s.scored()
        s.screened()
    if where in ("posting", "voiding", "settling"):
        s.hold_placed()
    if where == "voiding":
        s.refuse(POST, "account-closed")
    if where == "settling":
        s.money_moved()
    if where == "failing":
        s.refuse(PLACE, "insufficient-funds")
    assert s.flow.step == where
    s.pass_deadline()  # this one counts
    number, flow, log = s.flow.number, s.flow.to_dict(), len(s.log)
    for n in range(1000):
        assert s.fire(number - 1, name=f"repeated-{n}") == []  # it has fired
        assert s.fire(number - 1 - n % number, name=f"late-{n}") == []  # of steps long past
        assert s.fire(number, name=f"early-{n}") == []  # of this step, but not due
    assert (s.flow.to_dict(), len(s.log)) == (flow, log)


def test_deadlines_of_an_ended_saga_do_nothing(s: SagaScenario) -> None:
    s.settled()
    s.at(s.now_us + 10**12)
    log = len(s.log)
    assert s.decider.next_due(s.state) is None
    assert s.decider.due(s.state, s.now_us, 10) == []
    for n in range(1000):
        assert s.fire(n, name=f"late-{n}") == []
    assert len(s.log) == log


def test_deadlines_come_earliest_first_and_bounded() -> None:
    s = SagaScenario()
    s.initiated()
    s.see("payments.refund-requested.v1", **REFUND_REQUESTED)
    later = s.now_us + 3600 * SECOND
    first, second = s.decider.due(s.state, later, 10)
    assert (first.command.model_dump()["saga_id"], second.command.model_dump()["saga_id"]) == (
        PAYMENT,
        REFUND,
    )
    assert first.saga_id == second.saga_id == PAYMENT
    assert s.decider.due(s.state, later, 1) == [first]
    assert s.decider.due(s.state, later, 10) == [first, second]  # asking takes nothing away
    assert s.decider.due(s.state, s.now_us, 10) == []


# ------------------------------------------------------------------ refunds


def refunding(s: SagaScenario) -> list[str]:
    return s.settled().see("payments.refund-requested.v1", **REFUND_REQUESTED)


def moved(s: SagaScenario) -> list[str]:
    return s.see(
        "ledger.transaction-posted.v1", transaction_id=TRANSACTION, hold_id=None, reference=f"refund/{REFUND}"
    )


def test_a_refund_moves_money_back_and_is_recorded(s: SagaScenario) -> None:
    assert refunding(s) == [MOVE]
    entries = s.last(MOVE).data["transaction"]["entries"]
    assert [(x["account_id"], x["side"], x["amount"]) for x in entries] == [
        (PAYEE, "debit", 10**19),
        (PAYER, "credit", 10**19),
    ]
    assert s.last(MOVE).saga_id == PAYMENT
    assert moved(s) == [RECORD]
    assert s.last(RECORD).data == {
        "payment_id": PAYMENT,
        "refund_id": REFUND,
        "transaction_id": TRANSACTION,
        "reason": None,
    }
    assert moved(s) == []
    s.see("payments.refund-settled.v1", payment_id=PAYMENT, refund_id=REFUND)
    ended = s.ended()
    assert (ended.saga_id, ended.outcome) == (PAYMENT, "refund-settled")
    assert ended.token == {"payments/5": 4, "ledger/5": 3}
    assert s.log[-1][0].stream == REFUND
    assert not s.memory.refund_of


def test_a_refund_that_the_ledger_refuses(s: SagaScenario) -> None:
    refunding(s)
    assert s.refuse(MOVE, "insufficient-funds") == [RECORD]
    assert s.last(RECORD).data["reason"] == "insufficient-funds"
    s.see("payments.refund-failed.v1", payment_id=PAYMENT, refund_id=REFUND, reason="insufficient-funds")
    assert (s.ended().outcome, s.ended().reason) == ("refund-failed", "insufficient-funds")


def test_a_refund_is_never_given_up(s: SagaScenario) -> None:
    refunding(s)
    assert [s.pass_deadline() for _ in range(20)] == [[MOVE]] * 20
    assert len({c.command_id for c in s.all(MOVE)}) == 1
    moved(s)
    assert [s.pass_deadline() for _ in range(20)] == [[RECORD]] * 20
    assert len({c.command_id for c in s.all(RECORD)}) == 21
    assert s.refund.step == RefundStep.RECORDING
    assert s.refuse(RECORD, "payment-not-found") == []
    s.refuse(RECORD, "refund-not-found")  # recorded already
    assert s.ended().outcome == "refund-settled"


def test_a_failed_refund_that_was_recorded_already(s: SagaScenario) -> None:
    refunding(s)
    s.refuse(MOVE, "account-closed")
    s.refuse(RECORD, "refund-not-found")
    assert (s.ended().outcome, s.ended().reason) == ("refund-failed", "account-closed")


def test_late_and_repeated_deadlines_of_a_refund_do_nothing(s: SagaScenario) -> None:
    refunding(s)
    s.pass_deadline()
    number, log = s.refund.number, len(s.log)
    for n in range(1000):
        assert s.fire(number - 1, REFUND, f"repeated-{n}") == []
        assert s.fire(number, REFUND, f"early-{n}") == []
    assert len(s.log) == log


def test_a_refund_requested_twice_runs_once(s: SagaScenario) -> None:
    refunding(s)
    assert s.see("payments.refund-requested.v1", **REFUND_REQUESTED) == []
    moved(s)
    s.see("payments.refund-settled.v1", payment_id=PAYMENT, refund_id=REFUND)
    assert s.see("payments.refund-requested.v1", **REFUND_REQUESTED) == []
    assert s.ended().outcome == "refund-settled"


def test_many_refunds_of_one_payment_do_not_hear_each_others_answers(s: SagaScenario) -> None:
    refunding(s)
    other = an_id("another refund")
    s.see("payments.refund-requested.v1", **{**REFUND_REQUESTED, "refund_id": other})
    first, second = s.all(MOVE)
    assert first.command_id != second.command_id
    assert s.refuse(MOVE, "account-closed", second.command_id) == [RECORD]
    assert s.last(RECORD).data["refund_id"] == other
    assert moved(s) == [RECORD]
    assert s.last(RECORD).data["refund_id"] == REFUND
    assert s.refuse(PLACE, "x", "00000000-0000-5000-8000-00000000dead") == []
    assert s.refund.ledger_id == LEDGER
