"""How a payment's saga turns towards an end without money."""

from __future__ import annotations

from typing import Final

from sagas.payment import sending as tell
from sagas.payment.flow import Ending, PaymentFlow, Step
from sagas.payment.turn import Turn

PaymentTurn = Turn[PaymentFlow]
CANCELLED: Final = Ending("cancelled", "cancelled-by-caller")


def end(t: PaymentTurn, ending: Ending) -> None:
    """Nothing is held: end the payment, and leave no case open."""
    f = t.flow
    f.ending, f.subjects, f.device_id = ending, None, None
    t.send(tell.fail(f))
    if f.case_open:
        t.send(tell.withdraw_case(f, ending.reason))
    t.go(Step.FAILING)


def void(t: PaymentTurn, ending: Ending) -> None:
    """Something is held, or was posted after all: the ledger will say."""
    t.flow.ending = ending
    t.send(tell.void_hold(t.flow, t.flow.hold_id or "", ending.reason))
    t.go(Step.VOIDING)


def ending_of(f: PaymentFlow) -> Ending:
    """How it ends, once that is decided."""
    assert f.ending is not None, f"step {f.step} has an ending"
    return f.ending


def finish(t: PaymentTurn) -> None:
    """Over, as soon as the payment has been told and no case waits for an officer."""
    if t.flow.told and not t.flow.case_open:
        ending = ending_of(t.flow)
        t.ended = (ending.outcome, ending.reason)
