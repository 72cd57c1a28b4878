"""What a payment's saga does when its partner has not answered in time: ask again, then undo.

A deadline is named by the number of the step that set it. When it fires late or twice, the saga has moved
on, the number differs and nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sagas.payment import sending as tell
from sagas.payment.endings import PaymentTurn, end, ending_of, void
from sagas.payment.flow import Ending, PaymentFlow, Step
from sagas.payment.policy import Policy
from sagas.payment.turn import Turn


def time_out(flow: PaymentFlow, number: int, now_us: int, policy: Policy) -> PaymentTurn | None:
    """The deadline of step ``number`` has passed; ``None`` when the saga has moved since."""
    if number != flow.number or flow.deadline_us is None or now_us < flow.deadline_us:
        return None
    turn = Turn.of(flow, now_us, policy)
    _TIMED_OUT[Step(flow.step)](turn)
    return turn


def _clearing_timed_out(t: PaymentTurn) -> None:
    f = t.flow
    if t.tired:
        late = Ending("failed", "timeout-screening" if f.screening is None else "timeout-score")
        denied = Ending("rejected", "risk-denied") if f.risk == "deny" else None
        end(t, f.ending or denied or late)
        return
    if f.risk is None and f.ending is None:
        t.send(tell.score(f))
    if f.screening is None:
        t.send(tell.screen(f))
    t.again()


def _review_timed_out(t: PaymentTurn) -> None:
    end(t, Ending("failed", "timeout-review"))


def _holding_timed_out(t: PaymentTurn) -> None:
    f = t.flow
    if t.tired and f.ending is None:
        f.ending = Ending("failed", "timeout-hold")
    assert f.hold_expires_us is not None
    if t.now_us > f.hold_expires_us + t.policy.hold_grace_us:
        end(t, f.ending or Ending("failed", "timeout-hold"))
    else:
        t.send(tell.place_hold(f))
        t.again()


def _posting_timed_out(t: PaymentTurn) -> None:
    if t.tired:
        void(t, Ending("failed", "timeout-post"))
    else:
        t.send(tell.post_hold(t.flow))
        t.again()


def _voiding_timed_out(t: PaymentTurn) -> None:
    t.send(tell.void_hold(t.flow, t.flow.hold_id or "", ending_of(t.flow).reason))
    t.again()


def _settling_timed_out(t: PaymentTurn) -> None:
    """The money has moved: there is no way back, so the payment is told until it knows."""
    f = t.flow
    t.send(tell.record_risk(f))
    if f.case_id is not None:
        t.send(tell.record_screening(f, "review"))
    t.send(tell.record_screening(f, f.screening or ""))
    t.send(tell.record_hold(f), tell.record_posted(f), tell.settle(f))
    t.again()


def _failing_timed_out(t: PaymentTurn) -> None:
    f = t.flow
    if not f.told:
        t.send(tell.fail(f))
    if f.case_open:
        t.send(tell.withdraw_case(f, ending_of(f).reason))
    t.again()


_TIMED_OUT: Final[dict[Step, Callable[[PaymentTurn], None]]] = {
    Step.CLEARING: _clearing_timed_out,
    Step.REVIEW: _review_timed_out,
    Step.HOLDING: _holding_timed_out,
    Step.POSTING: _posting_timed_out,
    Step.VOIDING: _voiding_timed_out,
    Step.SETTLING: _settling_timed_out,
    Step.FAILING: _failing_timed_out,
}
