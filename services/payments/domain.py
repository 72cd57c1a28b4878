"""What can happen to a payment, and when it is refused.

::

    initiated --risk allowed and screening clear (or released by an officer)--> held --> posted --> settled
        |                                                                        |
        +--> rejected  (risk, sanctions or the ledger said no)                   |
        +--> cancelled (a caller asked in time) <--------------------------------+
        +--> failed    (a party did not answer, the hold was lost) <-------------+

A payment ends in exactly one of four ways. **settled**: the money moved; what follows can only be
refunds. **rejected**, **cancelled**, **failed**: no money moved and no hold is left.

* *Cancelling* is a request: it is taken as long as the payment is not known to be posted, and the payment
  then ends as cancelled, or as settled when the ledger had already posted it. Asking again, or for a payment that
  is cancelled already, changes nothing and is accepted.
* *Refunding* reserves first: ``RefundRequested`` takes its amount off what is refundable before any money moves,
  so fifty refunds at once can not exceed what was captured; a refund that the ledger refuses gives it back.
* *Facts* (risk, screening, hold, posting, settlement, failure, refund outcome) come from the payment's saga only.
  One that comes late, again or out of turn is refused with a reason and changes nothing.

Payments under way are in memory; an ended one leaves it and is read back when a command asks for it.
Which tenant a payment belongs to is told to nobody else: others see ``payment-not-found``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

from events.decider import (
    Accepted,
    Claim,
    Context,
    Decider,
    Emit,
    EventMeta,
    InvariantViolationError,
    Rejected,
)
from nexafi.ids import is_id, shard_of
from schemas.common.base import Command, Event
from schemas.common.money import EXPONENTS
from schemas.payments import commands as c
from schemas.payments import events as e
from services.payments.reasons import REASONS
from services.payments.state import Ended, Payment, Settled, State, UnderWay, dump, load

#: Events that one payment's stream may have; each refund takes two.
MAX_STREAM_VERSION: Final = 2_000

Decision = Accepted | Rejected


def _refuse(reason: str, pointer: str | None = None, detail: str = "") -> Rejected:
    return Rejected(reason, detail or REASONS[reason], pointer)


# ------------------------------------------------------------------ a new payment


def _initiate(command: c.InitiatePayment, ctx: Context) -> Decision:
    """The ledger itself checks at hold time that both accounts are open and in it; ids are checked here."""
    payer, payee, ledger_id = command.payer.account_id, command.payee.account_id, command.ledger_id
    if not is_id(ledger_id):
        return _refuse("ledger-not-found", "/ledger_id")
    shard = shard_of(ledger_id)
    for role, account_id in (("payer", payer), ("payee", payee)):
        if not is_id(account_id):
            return _refuse("account-not-found", f"/{role}/account_id")
        if shard_of(account_id) != shard:
            return _refuse("cross-ledger-not-supported", f"/{role}/account_id")
    if payer == payee:
        return _refuse("same-account", "/payee/account_id")
    if command.currency not in EXPONENTS:
        return _refuse("unknown-currency", "/currency")
    payment_id = ctx.new_id("payment")
    event = e.PaymentInitiated(
        payment_id=payment_id,
        ledger_id=ledger_id,
        payer=command.payer,
        payee=command.payee,
        amount=command.amount,
        currency=command.currency,
        external_reference=command.external_reference,
        description=command.description,
        metadata=command.metadata,
    )
    reference = command.external_reference
    scope = f"external-reference/{ctx.tenant}"
    claims = [Claim(scope, reference, payment_id, "/external_reference")] if reference else []
    return Accepted([Emit(payment_id, 1, event)], {"payment_id": payment_id}, claims)


# ------------------------------------------------------------------ what callers ask for


def _cancel(command: c.CancelPayment, payment: Payment) -> Decision:
    done = Accepted([], {"payment_id": command.payment_id})
    if isinstance(payment, Settled) or (isinstance(payment, UnderWay) and payment.status == "posted"):
        return _refuse("payment-posted")
    if isinstance(payment, Ended):
        return done if payment.outcome == "cancelled" else _refuse("payment-closed")
    if payment.cancelling:
        return done
    return _one(payment, e.CancellationRequested(payment_id=command.payment_id, reason=command.reason))


def _refund(command: c.RefundPayment, payment: Payment, ctx: Context) -> Decision:
    if not isinstance(payment, Settled):
        return _refuse("payment-not-settled")
    left = payment.refundable
    amount = left if command.amount is None else command.amount
    if amount > left:
        return _refuse("refund-exceeds-captured", "/amount", f"{left} minor units are left to refund")
    if amount == 0:
        return _refuse("nothing-left-to-refund")
    if payment.version + len(payment.refunds) + 2 > MAX_STREAM_VERSION:
        return _refuse("too-many-refunds")
    refund_id = ctx.new_id("refund")
    event = e.RefundRequested(
        payment_id=command.payment_id,
        refund_id=refund_id,
        amount=amount,
        currency=payment.currency,
        ledger_id=payment.ledger_id,
        payer_account_id=payment.payer_account_id,
        payee_account_id=payment.payee_account_id,
        captured=payment.captured,
        refunded=payment.refunded,
        reserved=payment.reserved,
        reason=command.reason,
    )
    return _one(payment, event, refund_id=refund_id)


# ------------------------------------------------------------------ facts from the saga


def _record_risk(command: c.RecordRisk, payment: UnderWay) -> Decision:
    if payment.risk is not None:
        return _refuse("already-recorded")
    return _one(
        payment,
        e.PaymentScored(payment_id=command.payment_id, score_bp=command.score_bp, decision=command.decision),
    )


def _record_screening(command: c.RecordScreening, payment: UnderWay) -> Decision:
    first = command.outcome in ("clear", "review")
    if payment.screening is None and not first:
        return _refuse("payment-not-in-review")
    if payment.screening is not None and (first or payment.screening != "review"):
        return _refuse("already-recorded")
    return _one(
        payment,
        e.PaymentScreened(payment_id=command.payment_id, outcome=command.outcome, case_id=command.case_id),
    )


def _record_hold(command: c.RecordHold, payment: UnderWay) -> Decision:
    if payment.status != "initiated":
        return _refuse("already-recorded")
    if not payment.cleared:
        return _refuse("payment-not-cleared")
    return _one(payment, e.PaymentHeld(payment_id=command.payment_id, hold_id=command.hold_id))


def _record_posted(command: c.RecordPosted, payment: UnderWay) -> Decision:
    if payment.status == "posted":
        return _refuse("already-recorded")
    if payment.status != "held":
        return _refuse("payment-not-held")
    return _one(
        payment, e.PaymentPosted(payment_id=command.payment_id, transaction_id=command.transaction_id)
    )


def _settle(command: c.SettlePayment, payment: UnderWay) -> Decision:
    if payment.status != "posted":
        return _refuse("payment-not-posted")
    return _one(payment, e.PaymentSettled(payment_id=command.payment_id, rail=command.rail))


def _fail(command: c.FailPayment, payment: UnderWay) -> Decision:
    if payment.status == "posted":
        return _refuse("payment-posted")
    if command.outcome == "cancelled" and not payment.cancelling:
        return _refuse("cancellation-not-requested")
    return _one(
        payment,
        e.PaymentFailed(
            payment_id=command.payment_id,
            outcome=command.outcome,
            reason=command.reason,
            detail=command.detail,
        ),
    )


def _record_refund(command: c.RecordRefund, payment: Payment) -> Decision:
    amount = payment.refunds.get(command.refund_id) if isinstance(payment, Settled) else None
    if amount is None:
        return _refuse("refund-not-found", "/refund_id")
    ids = {"payment_id": command.payment_id, "refund_id": command.refund_id}
    if command.transaction_id is not None and command.reason is None:
        settled = e.RefundSettled(**ids, transaction_id=command.transaction_id, amount=amount)
        return _one(payment, settled, refund_id=command.refund_id)
    if command.reason is not None and command.transaction_id is None:
        failed = e.RefundFailed(**ids, amount=amount, reason=command.reason)
        return _one(payment, failed, refund_id=command.refund_id)
    return _refuse("refund-outcome-unclear")


_FACTS: Final[Mapping[type[Command], Callable[[Any, UnderWay], Decision]]] = {
    c.RecordRisk: _record_risk,
    c.RecordScreening: _record_screening,
    c.RecordHold: _record_hold,
    c.RecordPosted: _record_posted,
    c.SettlePayment: _settle,
    c.FailPayment: _fail,
}


def _one(payment: Payment, event: Any, **ids: str) -> Accepted:
    """One more event on the payment's stream."""
    payment_id: str = event.payment_id
    return Accepted([Emit(payment_id, payment.version + 1, event)], {"payment_id": payment_id, **ids})


def _fact(command: Any, payment: Payment) -> Decision:
    if isinstance(command, c.RecordRefund):
        return _record_refund(command, payment)
    if isinstance(payment, Settled):
        return _refuse("payment-posted")
    if isinstance(payment, Ended):
        return _refuse("payment-closed")
    return _FACTS[type(command)](command, payment)


# ------------------------------------------------------------------ what the events mean


def _apply_under_way(payment: UnderWay, event: Event) -> None:
    match event:
        case e.PaymentScored():
            payment.risk = event.decision
        case e.PaymentScreened():
            payment.screening = event.outcome
        case e.PaymentHeld():
            payment.status = "held"
        case e.PaymentPosted():
            payment.status = "posted"
        case e.CancellationRequested():
            payment.cancelling = True


def _apply_refund(state: State, event: Event, meta: EventMeta) -> None:
    payment_id = meta.stream
    if isinstance(event, e.RefundRequested) and payment_id not in state.refunding:
        # The event says all that is needed: a snapshot does not have closed payments.
        state.closed.pop(payment_id, None)
        state.refunding[payment_id] = Settled(
            meta.tenant,
            meta.version,
            event.ledger_id,
            event.payer_account_id,
            event.payee_account_id,
            event.captured,
            event.currency,
            event.refunded,
        )
    payment = state.refunding[payment_id]
    payment.version = meta.version
    match event:
        case e.RefundRequested():
            payment.refunds[event.refund_id] = event.amount
        case e.RefundSettled():
            payment.refunded += payment.refunds.pop(event.refund_id)
        case e.RefundFailed():
            del payment.refunds[event.refund_id]
    if not payment.refunds:
        state.close(payment_id, payment)


class PaymentsDecider(Decider[State]):
    """The payment service's domain, as the engine runs it."""

    service: ClassVar[str] = "payments"
    state_version: ClassVar[int] = 1
    commands: ClassVar[Mapping[str, type[Command]]] = c.COMMANDS
    events: ClassVar[Mapping[str, type[Event]]] = e.EVENTS

    def initial(self, shard: int) -> State:  # noqa: ARG002
        return State()

    def decide(self, command: Any, state: State, ctx: Context) -> Decision:
        if isinstance(command, c.InitiatePayment):
            return _initiate(command, ctx)
        wish = isinstance(command, c.CancelPayment | c.RefundPayment)
        if not wish and ctx.saga_id != command.payment_id:
            return _refuse("saga-only")
        payment = state.find(command.payment_id)
        if payment is None or payment.tenant != ctx.tenant:
            return _refuse("payment-not-found", "/payment_id")
        match command:
            case c.CancelPayment():
                return _cancel(command, payment)
            case c.RefundPayment():
                return _refund(command, payment, ctx)
            case _:
                return _fact(command, payment)

    def evolve(self, state: State, event: Event, meta: EventMeta) -> State:
        payment_id = meta.stream
        match event:
            case e.PaymentInitiated():
                state.under_way[payment_id] = UnderWay(
                    meta.tenant,
                    meta.version,
                    event.ledger_id,
                    event.payer.account_id,
                    event.payee.account_id,
                    event.amount,
                    event.currency,
                )
            case e.RefundRequested() | e.RefundSettled() | e.RefundFailed():
                _apply_refund(state, event, meta)
            case e.PaymentSettled():
                p = state.under_way[payment_id]
                state.close(
                    payment_id,
                    Settled(
                        p.tenant,
                        meta.version,
                        p.ledger_id,
                        p.payer_account_id,
                        p.payee_account_id,
                        p.amount,
                        p.currency,
                    ),
                )
            case e.PaymentFailed():
                tenant = state.under_way[payment_id].tenant
                state.close(payment_id, Ended(tenant, meta.version, event.outcome))
            case _ if payment_id in state.under_way:
                payment = state.under_way[payment_id]
                payment.version = meta.version
                _apply_under_way(payment, event)
        return state

    # --- closed payments come back from their stream

    def needs(self, command: Any, state: State) -> Sequence[str]:
        if isinstance(command, c.InitiatePayment) or state.find(command.payment_id) is not None:
            return ()
        return (command.payment_id,)

    def hydrate(self, state: State, stream: str, history: Sequence[tuple[Event, EventMeta]]) -> None:
        if state.find(stream) is not None:
            return
        alone = State()
        for event, meta in history:
            self.evolve(alone, event, meta)
        payment = alone.closed.get(stream)
        if payment is not None:
            state.close(stream, payment)

    # --- what must never be

    def check_events(self, events: Iterable[Emit]) -> None:
        for _, _, event in events:
            if isinstance(event, e.RefundRequested):
                total = event.refunded + event.reserved + event.amount
                if event.amount <= 0 or total > event.captured:
                    raise InvariantViolationError(f"refunds of {total} exceed the captured {event.captured}")

    def check(self, state: State) -> None:
        for payment_id, payment in state.refunding.items():
            if not payment.refunds or payment.refundable < 0 or min(payment.refunds.values()) <= 0:
                raise InvariantViolationError(f"refunds of {payment_id} exceed what was captured")

    def dump(self, state: State) -> bytes:
        return dump(state)

    def load(self, data: bytes) -> State:
        return load(data)
