"""The rules of periods: what is closed, who may still write there, and what can be opened again.

A ledger has two marks on the axis of effective time. Before ``hard_until`` nothing counts any more that is not there
yet; before ``soft_until``, which is never lower, only adjusting entries do. Neither mark is ever in the future, so
what counts when it is recorded is never refused by them.
"""

from __future__ import annotations

from events.decider import Accepted, Context, Emit
from schemas.ledger.periods import (
    AdjustmentPosted,
    ClosePeriod,
    PeriodClosed,
    PeriodReopened,
    PostAdjustment,
    ReopenPeriod,
)
from services.ledger.lookup import owned
from services.ledger.posting import recorded, weigh
from services.ledger.reasons import Refusal
from services.ledger.state import State


def close_period(command: ClosePeriod, state: State, ctx: Context) -> Accepted:
    """Move a mark forward. A hard close takes the soft mark along."""
    ledger = owned(command.ledger_id, state, ctx)
    if command.until > ctx.now_us:
        raise Refusal("period-not-over", "/until")
    if command.until <= (ledger.soft_until if command.closing == "soft" else ledger.hard_until):
        raise Refusal("period-already-closed", "/until")
    event = PeriodClosed(
        ledger_id=ledger.id,
        closing=command.closing,
        soft_until=max(ledger.soft_until, command.until),
        hard_until=command.until if command.closing == "hard" else ledger.hard_until,
        note=command.note,
    )
    return _marks(event, ledger.version)


def reopen_period(command: ReopenPeriod, state: State, ctx: Context) -> Accepted:
    """Move the soft mark back, as far as the hard one at most."""
    ledger = owned(command.ledger_id, state, ctx)
    if command.until < ledger.hard_until:
        raise Refusal("period-closed", "/until", "a hard close is for good")
    if command.until >= ledger.soft_until:
        raise Refusal("period-not-closed", "/until")
    event = PeriodReopened(
        ledger_id=ledger.id, soft_until=command.until, hard_until=ledger.hard_until, note=command.note
    )
    return _marks(event, ledger.version)


def _marks(event: PeriodClosed | PeriodReopened, version: int) -> Accepted:
    result = {
        "ledger_id": event.ledger_id,
        "soft_until": event.soft_until,
        "hard_until": event.hard_until,
    }
    return Accepted([Emit(event.ledger_id, version + 1, event)], result)


def post_adjustment(command: PostAdjustment, state: State, ctx: Context) -> Accepted:
    """A posting like any other, but between the two marks and nowhere else."""
    ledger = owned(command.ledger_id, state, ctx)
    transaction = command.transaction
    if transaction.effective_at is None or transaction.effective_at >= ledger.soft_until:
        raise Refusal("period-not-closed", "/transaction/effective_at")
    weigh(ledger, transaction, {}, "/transaction", open_from=ledger.hard_until)
    transaction_id, adjustment_id = ctx.new_id("transaction"), ctx.new_id("adjustment")
    posted = recorded(ledger.id, transaction_id, transaction, ctx.now_us)
    event = AdjustmentPosted(
        ledger_id=ledger.id,
        adjustment_id=adjustment_id,
        transaction_id=transaction_id,
        effective_at=transaction.effective_at,
        reason=command.reason,
    )
    result = {"adjustment_id": adjustment_id, "transaction_id": transaction_id}
    return Accepted([Emit(transaction_id, 1, posted), Emit(adjustment_id, 1, event)], result)
