"""The payment saga: ``react(flow, what happened) -> turn``. Pure; the state is the flow, time is an argument.

::

    clearing --allowed and clear--> holding --> posting --> settling --> settled
        |  \\--hit--> review --released--^  |        |
        |               |                 |        +--refused or no answer--> voiding --posted after all--> settling
        |               |                 |                                     |
        +---denied------+---blocked, ----+--refused--> failing <----------------+
                            cancelled,                     |
                            timed out                      +--> rejected | cancelled | failed

* The fraud score and the screening are asked for in parallel and both are heard before anything is decided.
* A refusal reaches the saga as an event of the refusing service and ends the step at once.
* A cancellation counts until post-hold was sent (step ``posting``); later it is too late and the payment settles.
* A deadline that passes sends the step's commands again. After ``policy.retries`` times the saga undoes what may have
  been done. What it *can not know* it keeps asking: a placed hold is voided, and one whose placing was never
  answered has expired by ``hold_expires_us``; only then does the payment end. So no ending leaves a hold.
* An event that does not fit the step is late or repeated: nothing happens (``None``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sagas.payment import sending as tell
from sagas.payment.endings import CANCELLED, PaymentTurn, end, ending_of, finish, void
from sagas.payment.flow import Ending, PaymentFlow, Step
from sagas.payment.policy import Policy
from sagas.payment.sending import Send
from sagas.payment.turn import Turn
from schemas.sagas.commands import ObserveEvent

#: Reasons of the ledger for "there is nothing to void".
HOLD_IS_GONE: Final = frozenset({"hold-closed", "hold-expired", "hold-not-found"})


def begin(event: ObserveEvent, now_us: int, policy: Policy) -> PaymentTurn:
    """``payments.payment-initiated``: ask for the score and the screening at once."""
    d = event.data
    flow = PaymentFlow(
        d["payment_id"],
        event.tenant,
        d["ledger_id"],
        d["payer"]["account_id"],
        d["payee"]["account_id"],
        d["amount"],
        d["currency"],
        now_us,
        device_id=d["payer"].get("device_id"),
        subjects=[
            {"role": role, "name": d[role]["name"], "country": d[role].get("country")}
            for role in ("payer", "payee")
        ],
    )
    turn = Turn.of(flow, now_us, policy)
    turn.note(event)
    turn.send(tell.score(turn.flow), tell.screen(turn.flow))
    turn.go(Step.CLEARING)
    return turn


def react(flow: PaymentFlow, event: ObserveEvent, now_us: int, policy: Policy) -> PaymentTurn | None:
    """What the event makes of the flow; ``None`` when it changes nothing."""
    handler = _HANDLERS.get(event.event_type)
    if handler is None:
        return None
    turn = Turn.of(flow, now_us, policy)
    turn.note(event)
    return turn if handler(turn, event.data) else None


def after_end(event: ObserveEvent, now_us: int) -> tuple[PaymentFlow, list[Send]]:
    """An ended saga undoes what turns up late: a hold that nobody waits for, a case that nobody needs decided."""
    d = event.data
    flow = PaymentFlow(event.saga_id, event.tenant, d.get("ledger_id", ""), "", "", 0, "", now_us)
    match event.event_type:
        case "ledger.hold-placed.v1":
            return flow, [tell.void_hold(flow, d["hold_id"], "payment-ended")]
        case "compliance.screening-completed.v1" if d["outcome"] == "hit":
            flow.case_id = d["case_id"]
            return flow, [tell.withdraw_case(flow, "payment-ended")]
        case _:
            return flow, []


# ------------------------------------------------------------------ clearing and review


def _scored(t: PaymentTurn, d: dict[str, Any]) -> bool:
    f = t.flow
    if f.step != Step.CLEARING or f.risk is not None:
        return False
    f.risk, f.score_bp = d["decision"], d["score_bp"]
    t.send(tell.record_risk(f))
    _go_on(t)
    return True


def _screened(t: PaymentTurn, d: dict[str, Any]) -> bool:
    f = t.flow
    if f.screening is not None or f.step not in (Step.CLEARING, Step.FAILING):
        return False
    hit = d["outcome"] == "hit"
    if f.step == Step.FAILING and not hit:
        return False
    f.screening, f.case_id, f.case_open = ("review" if hit else "clear"), d.get("case_id"), hit
    if f.step == Step.FAILING:
        t.send(tell.withdraw_case(f, ending_of(f).reason))
    else:
        t.send(tell.record_screening(f, f.screening))
        _go_on(t)
    return True


def _case_decided(t: PaymentTurn, d: dict[str, Any]) -> bool:
    f = t.flow
    if f.step == Step.FAILING:
        return _case_closed(t, d)
    if f.step not in (Step.CLEARING, Step.REVIEW) or f.screening not in (None, "review"):
        return False
    if f.screening is None:  # before its screening was heard of
        f.case_id = d["case_id"]
        t.send(tell.record_screening(f, "review"))
    f.case_open = False
    f.screening = "released" if d["decision"] == "release" else "blocked"
    t.send(tell.record_screening(f, f.screening))
    _go_on(t)
    return True


def _go_on(t: PaymentTurn) -> None:
    """Decide as soon as the score and the screening are both known."""
    f = t.flow
    if f.ending is not None:
        if f.screening is not None:
            end(t, f.ending)
    elif f.screening == "blocked":
        end(t, Ending("rejected", "sanctions-blocked"))
    elif f.risk is None or f.screening is None:
        return
    elif f.risk == "deny":
        end(t, Ending("rejected", "risk-denied"))
    elif f.screening == "review":
        if f.step != Step.REVIEW:
            t.go(Step.REVIEW, wait_us=t.policy.review_timeout_us)
    else:
        f.subjects = f.device_id = None  # names are kept no longer than needed
        f.hold_expires_us = t.now_us + t.policy.hold_life_us
        t.send(tell.place_hold(f))
        t.go(Step.HOLDING)


# ------------------------------------------------------------------ money


def _hold_placed(t: PaymentTurn, d: dict[str, Any]) -> bool:
    f = t.flow
    if f.hold_id is None and f.step == Step.FAILING:  # given up long ago; it has expired by now
        t.send(tell.void_hold(f, d["hold_id"], ending_of(f).reason))
        return True
    if f.step != Step.HOLDING:
        return False
    f.hold_id = d["hold_id"]
    if f.ending is not None:
        void(t, f.ending)
    else:
        f.committed = True
        t.send(tell.record_hold(f), tell.post_hold(f))
        t.go(Step.POSTING)
    return True


def _money_moved(t: PaymentTurn, d: dict[str, Any]) -> bool:
    f = t.flow
    if f.step not in (Step.POSTING, Step.VOIDING) or d.get("hold_id") != f.hold_id:
        return False
    f.transaction_id, f.ending = d["transaction_id"], None
    t.send(tell.record_posted(f), tell.settle(f))
    t.go(Step.SETTLING)
    return True


def _hold_gone(t: PaymentTurn, d: dict[str, Any], reason: str) -> bool:
    f = t.flow
    if f.step not in (Step.POSTING, Step.VOIDING) or d["hold_id"] != f.hold_id:
        return False
    end(t, f.ending or Ending("failed", reason))
    return True


# ------------------------------------------------------------------ endings


def _cancel(t: PaymentTurn, _: dict[str, Any]) -> bool:
    f = t.flow
    if f.ending is not None or f.step not in (Step.CLEARING, Step.REVIEW, Step.HOLDING):
        return False
    f.ending = CANCELLED
    # While clearing, a hit may still open a case; while holding, a hold may still be placed: hear it first.
    if f.step == Step.REVIEW or (f.step == Step.CLEARING and f.screening is not None):
        end(t, CANCELLED)
    return True


def _payment_settled(t: PaymentTurn, _: dict[str, Any]) -> bool:
    if t.flow.step != Step.SETTLING:
        return False
    t.ended = ("settled", None)
    return True


def _payment_failed(t: PaymentTurn, _: dict[str, Any]) -> bool:
    if t.flow.step != Step.FAILING or t.flow.told:
        return False
    t.flow.told = True
    finish(t)
    return True


def _case_closed(t: PaymentTurn, _: dict[str, Any]) -> bool:
    if t.flow.step != Step.FAILING or not t.flow.case_open:
        return False
    t.flow.case_open = False
    finish(t)
    return True


# ------------------------------------------------------------------ refusals


def _refused(t: PaymentTurn, d: dict[str, Any]) -> bool:
    handler = _REFUSED.get((t.flow.step, d["command_type"]))
    return handler is not None and handler(t, d)


def _score_refused(t: PaymentTurn, d: dict[str, Any]) -> bool:
    f = t.flow
    if f.risk is not None or f.ending is not None:
        return False
    f.ending = Ending("failed", d["reason"], d.get("detail", ""))
    _go_on(t)
    return True


def _screening_refused(t: PaymentTurn, d: dict[str, Any]) -> bool:
    if t.flow.screening is not None:
        return False
    end(t, t.flow.ending or Ending("failed", d["reason"], d.get("detail", "")))
    return True


def _hold_refused(t: PaymentTurn, d: dict[str, Any]) -> bool:
    end(t, t.flow.ending or Ending("rejected", d["reason"], d.get("detail", "")))
    return True


def _post_refused(t: PaymentTurn, d: dict[str, Any]) -> bool:
    # Whatever the reason, the hold may be open still (a ceiling, a closed account, an expiry not yet recorded).
    gone = d["reason"] in HOLD_IS_GONE
    void(t, Ending("failed" if gone else "rejected", d["reason"], d.get("detail", "")))
    return True


def _void_refused(t: PaymentTurn, d: dict[str, Any]) -> bool:
    """The hold is closed. If it was closed by posting, that event came before this one: both are of one shard."""
    if d["reason"] not in HOLD_IS_GONE:
        return False
    end(t, ending_of(t.flow))
    return True


def _settle_refused(t: PaymentTurn, d: dict[str, Any]) -> bool:
    if d["reason"] != "payment-posted":  # not settled yet: the deadline tells it everything again
        return False
    t.ended = ("settled", None)
    return True


def _fail_refused(t: PaymentTurn, d: dict[str, Any]) -> bool:
    if d["reason"] != "payment-closed" or t.flow.told:
        return False
    return _payment_failed(t, d)


_HANDLERS: Final[dict[str, Callable[[PaymentTurn, dict[str, Any]], bool]]] = {
    "ai.payment-scored.v1": _scored,
    "compliance.screening-completed.v1": _screened,
    "compliance.case-decided.v1": _case_decided,
    "compliance.case-withdrawn.v1": _case_closed,
    "ledger.hold-placed.v1": _hold_placed,
    "ledger.transaction-posted.v1": _money_moved,
    "ledger.hold-voided.v1": lambda t, d: _hold_gone(t, d, "hold-voided"),
    "ledger.hold-expired.v1": lambda t, d: _hold_gone(t, d, "hold-expired"),
    "payments.cancellation-requested.v1": _cancel,
    "payments.payment-settled.v1": _payment_settled,
    "payments.payment-failed.v1": _payment_failed,
    "ai.command-refused.v1": _refused,
    "compliance.command-refused.v1": _refused,
    "ledger.command-refused.v1": _refused,
    "payments.command-refused.v1": _refused,
}
_REFUSED: Final[dict[tuple[str, str], Callable[[PaymentTurn, dict[str, Any]], bool]]] = {
    (Step.CLEARING, "ai.score-payment.v1"): _score_refused,
    (Step.CLEARING, "compliance.screen-payment.v1"): _screening_refused,
    (Step.HOLDING, "ledger.place-hold.v1"): _hold_refused,
    (Step.POSTING, "ledger.post-hold.v1"): _post_refused,
    (Step.VOIDING, "ledger.void-hold.v1"): _void_refused,
    (Step.SETTLING, "payments.settle-payment.v1"): _settle_refused,
    (Step.FAILING, "payments.fail-payment.v1"): _fail_refused,
    (Step.FAILING, "compliance.withdraw-case.v1"): _case_closed,
}
OBSERVED: Final = frozenset(_HANDLERS)
"""Event types that can change a payment's flow; the router copies no others."""
