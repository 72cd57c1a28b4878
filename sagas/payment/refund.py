"""A refund: the ledger moves the amount back, then the payment records it. Pure, like the payment's saga.

A refund is never given up. Its amount is reserved in the payment, and only the ledger's answer, posted or refused,
frees or uses it: a refund that was called failed while its transaction was still on the way could be
refunded twice. So the same command (same id) is sent again until the ledger has answered.
"""

from __future__ import annotations

from typing import Any, Final

from sagas.payment import sending as tell
from sagas.payment.flow import RefundFlow, RefundStep
from sagas.payment.policy import Policy
from sagas.payment.turn import Turn
from schemas.sagas.commands import ObserveEvent

RefundTurn = Turn[RefundFlow]


def begin(event: ObserveEvent, now_us: int, policy: Policy) -> RefundTurn:
    """``payments.refund-requested``: the event says all there is to know."""
    d = event.data
    flow = RefundFlow(
        d["payment_id"],
        event.tenant,
        d["ledger_id"],
        d["payer_account_id"],
        d["payee_account_id"],
        d["amount"],
        d["currency"],
        now_us,
        refund_id=d["refund_id"],
    )
    turn = Turn.of(flow, now_us, policy)
    turn.note(event)
    turn.send(tell.move_back(turn.flow))
    turn.go(RefundStep.MOVING)
    return turn


def react(flow: RefundFlow, event: ObserveEvent, now_us: int, policy: Policy) -> RefundTurn | None:
    """What the event makes of the refund; ``None`` when it changes nothing."""
    turn = Turn.of(flow, now_us, policy)
    turn.note(event)
    return turn if _happened(turn, event.event_type, event.data) else None


def _happened(t: RefundTurn, kind: str, d: dict[str, Any]) -> bool:
    f = t.flow
    match f.step, kind:
        case RefundStep.MOVING, "ledger.transaction-posted.v1":
            f.transaction_id = d["transaction_id"]
        case RefundStep.MOVING, "ledger.command-refused.v1":
            f.reason = d["reason"]
        case RefundStep.RECORDING, "payments.refund-settled.v1":
            t.ended = ("refund-settled", None)
            return True
        case RefundStep.RECORDING, "payments.refund-failed.v1":
            t.ended = ("refund-failed", d["reason"])
            return True
        case RefundStep.RECORDING, "payments.command-refused.v1" if d["reason"] == "refund-not-found":
            t.ended = ("refund-failed", f.reason) if f.reason else ("refund-settled", None)  # known already
            return True
        case _:
            return False
    t.send(tell.record_refund(f))
    t.go(RefundStep.RECORDING)
    return True


def time_out(flow: RefundFlow, number: int, now_us: int, policy: Policy) -> RefundTurn | None:
    """The deadline of step ``number`` has passed; ``None`` when the refund has moved since."""
    if number != flow.number or flow.deadline_us is None or now_us < flow.deadline_us:
        return None
    turn = Turn.of(flow, now_us, policy)
    moving = turn.flow.step == RefundStep.MOVING
    turn.send(tell.move_back(turn.flow) if moving else tell.record_refund(turn.flow))
    turn.again()
    return turn


OBSERVED: Final = frozenset(
    {
        "payments.refund-requested.v1",
        "payments.refund-settled.v1",
        "payments.refund-failed.v1",
        "ledger.transaction-posted.v1",
        "ledger.command-refused.v1",
        "payments.command-refused.v1",
    }
)
"""Event types that can change a refund's flow; the router copies no others."""
