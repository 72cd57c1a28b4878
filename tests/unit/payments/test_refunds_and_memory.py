"""Refunds never exceed what was captured, and closed payments come and go without anybody noticing."""

from __future__ import annotations

from typing import Any

import pytest

from events.decider import Accepted, Context, InvariantViolationError, Rejected
from schemas.payments import commands as c
from schemas.payments import events as e
from services.payments.domain import MAX_STREAM_VERSION
from services.payments.state import MAX_CLOSED, Settled, UnderWay
from tests.unit.payments.kit import LEDGER, PAYEE, PAYER, TRANSACTION, PaymentScenario, an_id


@pytest.fixture
def s() -> PaymentScenario:
    return PaymentScenario()


# ------------------------------------------------------------------ refunds


def test_a_refund_in_full_and_its_settlement(s: PaymentScenario) -> None:
    s.initiated().settled()
    refund_id = s.caller(c.RefundPayment, reason="broken").accepted()["refund_id"]
    assert s.log[-1][0].event == e.RefundRequested(
        payment_id=s.payment_id,
        refund_id=refund_id,
        amount=1250,
        currency="EUR",
        ledger_id=LEDGER,
        payer_account_id=PAYER,
        payee_account_id=PAYEE,
        captured=1250,
        refunded=0,
        reserved=0,
        reason="broken",
    )
    s.caller(c.RefundPayment).rejected("nothing-left-to-refund")
    s.caller(c.RefundPayment, amount=1).rejected("refund-exceeds-captured", "/amount")
    s.saga(c.RecordRefund, refund_id=refund_id, transaction_id=TRANSACTION).then(
        e.RefundSettled(payment_id=s.payment_id, refund_id=refund_id, transaction_id=TRANSACTION, amount=1250)
    )
    assert not s.memory.refunding
    s.saga(c.RecordRefund, refund_id=refund_id, transaction_id=TRANSACTION).rejected("refund-not-found")
    s.caller(c.RefundPayment, amount=1).rejected("refund-exceeds-captured")
    s.assert_replay_equal()


def test_a_failed_refund_gives_its_amount_back(s: PaymentScenario) -> None:
    s.initiated().settled()
    first = s.caller(c.RefundPayment, amount=1000).accepted()["refund_id"]
    s.caller(c.RefundPayment, amount=251).rejected("refund-exceeds-captured", "/amount")
    s.saga(c.RecordRefund, refund_id=first, reason="insufficient-funds").then(
        e.RefundFailed(payment_id=s.payment_id, refund_id=first, amount=1000, reason="insufficient-funds")
    )
    s.caller(c.RefundPayment, amount=1250).accepted()
    s.assert_replay_equal()


def test_fifty_refunds_at_once_never_exceed_what_was_captured(s: PaymentScenario) -> None:
    s.initiated().settled()
    outcomes = [s.caller(c.RefundPayment, amount=100) for _ in range(50)]
    accepted = [o.decision.result["refund_id"] for o in outcomes if isinstance(o.decision, Accepted)]
    assert len(accepted) == 12  # 12 x 100 <= 1250 < 13 x 100
    for outcome in outcomes[12:]:
        outcome.rejected("refund-exceeds-captured")
    s.assert_replay_equal()
    for refund_id in accepted:
        s.saga(c.RecordRefund, refund_id=refund_id, transaction_id=TRANSACTION).accepted()
    s.caller(c.RefundPayment, amount=51).rejected("refund-exceeds-captured")
    rest = s.caller(c.RefundPayment).accepted()["refund_id"]
    event = s.log[-1][0].event
    assert isinstance(event, e.RefundRequested)
    assert (event.refund_id, event.amount, event.refunded, event.reserved) == (rest, 50, 1200, 0)


@pytest.mark.parametrize("state", ["initiated", "held", "posted", "failed"])
def test_only_a_settled_payment_is_refunded(s: PaymentScenario, state: str) -> None:
    s.initiated()
    if state != "initiated":
        getattr(s, state)()
    s.caller(c.RefundPayment).rejected("payment-not-settled")


def test_a_refund_has_one_outcome(s: PaymentScenario) -> None:
    s.initiated().settled()
    refund_id = s.caller(c.RefundPayment).accepted()["refund_id"]
    s.saga(c.RecordRefund, refund_id=refund_id).rejected("refund-outcome-unclear")
    s.saga(c.RecordRefund, refund_id=refund_id, transaction_id=TRANSACTION, reason="x").rejected(
        "refund-outcome-unclear"
    )


def test_the_number_of_refunds_of_a_payment_is_bounded(s: PaymentScenario) -> None:
    s.initiated().settled()
    payment = s.memory.closed[s.payment_id]
    payment.version = MAX_STREAM_VERSION - 2
    one, ctx = c.RefundPayment(payment_id=s.payment_id, amount=1), _context(s)
    assert isinstance(s.decider.decide(one, s.state, ctx), Accepted)
    payment.version += 1
    refused = s.decider.decide(one, s.state, ctx)
    assert isinstance(refused, Rejected)
    assert refused.reason == "too-many-refunds"


def _context(s: PaymentScenario) -> Context:
    return Context(s.now_us, s.shard, an_id("command"), s.tenant, s.actor)


# ------------------------------------------------------------------ memory


def test_closed_payments_leave_memory_and_come_back_from_their_stream(s: PaymentScenario) -> None:
    s.initiated().settled()
    s.state = s.decider.load(s.decider.dump(s.state))
    assert s.memory.find(s.payment_id) is None
    assert s.decider.needs(c.RefundPayment(payment_id=s.payment_id), s.state) == (s.payment_id,)
    first = s.caller(c.RefundPayment, amount=1000).accepted()["refund_id"]
    s.saga(c.RecordRefund, refund_id=first, transaction_id=TRANSACTION).accepted()
    s.state = s.decider.load(s.decider.dump(s.state))
    s.caller(c.RefundPayment, amount=251).rejected("refund-exceeds-captured")
    s.caller(c.RefundPayment, amount=250).accepted()
    s.assert_replay_equal()


def test_a_tail_that_refunds_a_payment_which_the_snapshot_forgot(s: PaymentScenario) -> None:
    s.initiated().settled()
    done = s.caller(c.RefundPayment, amount=200).accepted()["refund_id"]
    s.saga(c.RecordRefund, refund_id=done, transaction_id=TRANSACTION).accepted()
    snapshot, seen = s.decider.dump(s.state), len(s.log)
    s.caller(c.RefundPayment, amount=300).accepted()
    s.caller(c.RefundPayment, amount=400).accepted()
    restored = s.decider.load(snapshot)
    for emit, meta in s.log[seen:]:
        restored = s.decider.evolve(restored, emit.event, meta)
    assert s.decider.dump(restored) == s.decider.dump(s.state)
    payment = restored.refunding[s.payment_id]
    assert (payment.captured, payment.refunded, payment.reserved, payment.refundable) == (1250, 200, 700, 350)


def test_what_is_kept_of_closed_payments_is_bounded(
    s: PaymentScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.payments.state.MAX_CLOSED", 3)
    assert MAX_CLOSED > 8_000  # more than two batches can close
    ids = []
    for _ in range(6):
        s.initiated().failed()
        ids.append(s.payment_id)
    assert list(s.memory.closed) == ids[3:]


def test_a_payment_in_memory_is_never_replaced_by_its_stream(s: PaymentScenario) -> None:
    s.initiated()
    assert s.decider.needs(c.CancelPayment(payment_id=s.payment_id), s.state) == ()
    before = s.memory.under_way[s.payment_id]
    s.decider.hydrate(s.state, s.payment_id, [(x.event, m) for x, m in s.log])
    assert s.memory.under_way[s.payment_id] is before


def test_amounts_beyond_64_bits_survive_a_snapshot(s: PaymentScenario) -> None:
    s.initiated(amount=10**38 - 1, currency="ETH").settled()
    s.caller(c.RefundPayment, amount=10**37).accepted()
    s.initiated(amount=10**37, currency="ETH")
    s.assert_replay_equal()
    again = s.decider.load(s.decider.dump(s.state))
    assert again.under_way[s.payment_id].amount == 10**37


# ------------------------------------------------------------------ what must never be


def test_the_engine_stops_before_refunds_exceed_what_was_captured(s: PaymentScenario) -> None:
    s.initiated().settled()
    s.caller(c.RefundPayment, amount=1250).accepted()
    emit, _ = s.log[-1]
    over = emit._replace(event=emit.event.model_copy(update={"reserved": 1}))
    with pytest.raises(InvariantViolationError):
        s.decider.check_events([over])
    state = s.memory
    s.decider.check(state)
    state.refunding[s.payment_id].refunds["another"] = 1
    with pytest.raises(InvariantViolationError):
        s.decider.check(state)


def test_clearance_is_both_risk_and_screening() -> None:
    p = UnderWay("t", 1, LEDGER, PAYER, PAYEE, 1, "EUR")
    combinations = {
        (risk, screening)
        for risk in (None, "allow", "deny")
        for screening in (None, "clear", "review", "released", "blocked")
        if _cleared(p, risk, screening)
    }
    assert combinations == {("allow", "clear"), ("allow", "released")}


def _cleared(p: UnderWay, risk: Any, screening: Any) -> bool:
    p.risk, p.screening = risk, screening
    return p.cleared


def test_settled_counts_refunds_in_flight() -> None:
    p = Settled("t", 1, LEDGER, PAYER, PAYEE, 100, "EUR", 20, {"a": 30, "b": 5})
    assert (p.reserved, p.refundable) == (35, 45)
