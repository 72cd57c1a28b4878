"""The rules of holds: money is reserved on two accounts until it is posted, voided or expires.

A hold reserves on the account it would debit and counts towards the ceiling of the account it would credit, so
that whatever becomes of the holds of an account, its limits are kept. Only an event frees what is reserved.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from events.decider import Accepted, Context, Due, Emit
from nexafi.ids import derived_id
from schemas.ledger.commands import ExpireHold, PlaceHold, PostHold, VoidHold
from schemas.ledger.events import Entry, HoldExpired, HoldPlaced, HoldPosted, HoldVoided, TransactionPosted
from services.ledger.charting import may_not_face
from services.ledger.lookup import account_of, other_currency, owned, require_saga
from services.ledger.posting import out_of_limits
from services.ledger.reasons import Refusal
from services.ledger.state import Hold, Ledger, State


def place_hold(command: PlaceHold, state: State, ctx: Context) -> Accepted:
    """Reserve: never below the floor of one account, never above the ceiling of the other."""
    ledger = owned(command.ledger_id, state, ctx)
    debit = account_of(ledger, command.debit_account_id, "/debit_account_id")
    credit = account_of(ledger, command.credit_account_id, "/credit_account_id")
    if debit is credit:
        raise Refusal("same-account", "/credit_account_id")
    for account in (debit, credit):
        if account.currency != command.currency:
            raise other_currency(account, command.currency, "/currency")
    if ledger.has_facings and not debit.may_debit & credit.may_credit:
        raise may_not_face(debit, credit, "/credit_account_id")
    if command.expires_at is not None and command.expires_at <= ctx.now_us:
        raise Refusal("expires-in-the-past", "/expires_at")
    for account, debits, credits_ in ((debit, command.amount, 0), (credit, 0, command.amount)):
        least = account.balance - account.pending_credits - credits_
        most = account.balance + account.pending_debits + debits
        if least < account.low or most > account.high:
            raise out_of_limits(account, least, most, "/amount")
    hold_id = ctx.new_id("hold")
    event = HoldPlaced(
        ledger_id=ledger.id,
        hold_id=hold_id,
        debit_account_id=debit.id,
        credit_account_id=credit.id,
        amount=command.amount,
        currency=command.currency,
        expires_at=command.expires_at,
        reference=command.reference,
        metadata=command.metadata,
    )
    return Accepted([Emit(hold_id, 1, event)], {"hold_id": hold_id})


def post_hold(command: PostHold, state: State, ctx: Context) -> Accepted:
    """Move what was reserved, or part of it. ``final`` frees the rest, otherwise the rest stays reserved."""
    ledger = owned(command.ledger_id, state, ctx)
    hold = open_hold(ledger, command.hold_id, state)
    require_saga(hold.saga_id, ctx, "/hold_id")
    if hold.expires_at is not None and hold.expires_at <= ctx.now_us:
        raise Refusal("hold-expired", "/hold_id")
    amount = hold.remaining if command.amount is None else command.amount
    rest = hold.remaining - amount
    if rest < 0:
        raise Refusal("amount-exceeds-hold", "/amount", f"{hold.remaining} minor units are still reserved")
    transaction_id = ctx.new_id("transaction")
    # The hold first: freeing before moving keeps the limits at every position, not only at the end of the batch.
    part = HoldPosted(
        ledger_id=ledger.id,
        hold_id=hold.id,
        transaction_id=transaction_id,
        amount=amount,
        remaining=0 if command.final else rest,
        released=rest if command.final else 0,
    )
    debit, credit = hold.debit, hold.credit
    transaction = TransactionPosted(
        ledger_id=ledger.id,
        transaction_id=transaction_id,
        entries=[
            Entry(account_id=debit.id, side="debit", amount=amount, currency=debit.currency),
            Entry(account_id=credit.id, side="credit", amount=amount, currency=credit.currency),
        ],
        effective_at=ctx.now_us,
        reference=hold.reference,
        description=command.description,
        hold_id=hold.id,
    )
    return Accepted(
        [Emit(hold.id, hold.version + 1, part), Emit(transaction_id, 1, transaction)],
        {"hold_id": hold.id, "transaction_id": transaction_id},
    )


def void_hold(command: VoidHold, state: State, ctx: Context) -> Accepted:
    """Free what is left, also after the deadline as long as its expiry is not recorded."""
    ledger = owned(command.ledger_id, state, ctx)
    hold = open_hold(ledger, command.hold_id, state)
    require_saga(hold.saga_id, ctx, "/hold_id")
    event = HoldVoided(ledger_id=ledger.id, hold_id=hold.id, released=hold.remaining, reason=command.reason)
    return Accepted([Emit(hold.id, hold.version + 1, event)], {"hold_id": hold.id})


def expire_hold(command: ExpireHold, state: State, ctx: Context) -> Accepted:
    """Free what is left because the deadline passed. Only :func:`due` knows the command id that is accepted."""
    ledger = owned(command.ledger_id, state, ctx)
    if ctx.command_id != expiry_id(command.hold_id):
        raise Refusal("internal-command", "/hold_id")
    hold = open_hold(ledger, command.hold_id, state)
    if hold.expires_at is None or hold.expires_at > ctx.now_us:
        raise Refusal("hold-not-due", "/hold_id")
    event = HoldExpired(ledger_id=ledger.id, hold_id=hold.id, released=hold.remaining)
    return Accepted([Emit(hold.id, hold.version + 1, event)], {"hold_id": hold.id})


def due(state: State, now_us: int, limit: int) -> Sequence[Due]:
    """Expiries at or before ``now_us``, earliest first, at most ``limit``. They stay due until they happened."""
    found: list[tuple[int, str, str]] = []
    out: list[Due] = []
    while len(out) < limit and (first := state.first_deadline()) is not None and first[0] <= now_us:
        _, ledger, hold = first
        found.append(heappop(state.deadlines))
        command = ExpireHold(ledger_id=ledger.id, hold_id=hold.id)
        out.append(Due(expiry_id(hold.id), ledger.tenant, command, hold.saga_id))
    for deadline in found:
        heappush(state.deadlines, deadline)
    return out


def expiry_id(hold_id: str) -> str:
    """The command id of a hold's expiry: the same for every attempt, and none that a caller's request can have."""
    return derived_id(hold_id, "expire")


def open_hold(ledger: Ledger, hold_id: str, state: State) -> Hold:
    """An open hold of ``ledger``, or why there is none."""
    hold = ledger.holds.get(hold_id)
    if hold is not None:
        return hold
    ended = state.ended.get(hold_id)
    if ended is None or ended.ledger_id != ledger.id:
        raise Refusal("hold-not-found", "/hold_id")
    raise Refusal("hold-expired" if ended.expired else "hold-closed", "/hold_id")
