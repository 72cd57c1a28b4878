"""The rules of the ledger: what can happen, and when it is refused.

One rule for each command: open a book and its accounts, move money, look after accounts; reserving money has its
rules in ``holds.py``. A rule raises :class:`~services.ledger.reasons.Refusal` where it ends early.
``docs/concepts/ledger.md`` tells the same in prose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

from events.decider import Accepted, Context, Decider, Due, Emit, EventMeta, Rejected
from schemas.common.base import MAX_METADATA, Command, Event
from schemas.common.outcomes import CommandRefused
from schemas.ledger.chart import AdoptChart
from schemas.ledger.commands import (
    COMMANDS,
    CloseAccount,
    CreateLedger,
    ExpireHold,
    OpenAccount,
    PlaceHold,
    PostBatch,
    PostHold,
    PostTransaction,
    ReverseTransaction,
    SetAccountLimits,
    SetAccountMetadata,
    VoidHold,
)
from schemas.ledger.currencies import Convert, RecordRate, RegisterAsset, Revalue
from schemas.ledger.events import (
    EVENTS,
    AccountClosed,
    AccountLimitsSet,
    AccountMetadataSet,
    AccountOpened,
    LedgerCreated,
    TransactionPosted,
    TransactionReversed,
)
from schemas.ledger.periods import ClosePeriod, PostAdjustment, ReopenPeriod
from schemas.ledger.templates import ApplyTemplate, DefineTemplate
from services.ledger import evolve, exchange, holds, invariants, periods, recall, snapshot, templates
from services.ledger.charting import adopt_chart, require_place
from services.ledger.lookup import account_of, owned, require_saga
from services.ledger.posting import Changes, keep_limits, mirrored, net_changes, recorded, require_open, weigh
from services.ledger.reasons import Refusal
from services.ledger.state import State

_NOTHING: Final[Changes] = {}


def create_ledger(command: CreateLedger, _: State, ctx: Context) -> Accepted:
    """A new book, owned by the caller's tenant."""
    ledger_id = ctx.new_id("ledger")
    event = LedgerCreated(ledger_id=ledger_id, name=command.name, metadata=command.metadata)
    return Accepted([Emit(ledger_id, 1, event)], {"ledger_id": ledger_id})


def open_account(command: OpenAccount, state: State, ctx: Context) -> Accepted:
    """A new account with balance zero, which its limits must allow."""
    ledger = owned(command.ledger_id, state, ctx)
    if not ledger.knows(command.currency):
        raise Refusal("unknown-currency", "/currency")
    require_within((0, 0), command.floor, command.ceiling)
    if command.code in ledger.codes:
        raise Refusal("code-taken", "/code")
    require_place(ledger, command)
    account_id = ctx.new_id("account")
    event = AccountOpened(
        ledger_id=ledger.id,
        account_id=account_id,
        code=command.code,
        currency=command.currency,
        normal_side=command.normal_side,
        name=command.name,
        floor=command.floor,
        ceiling=command.ceiling,
        metadata=command.metadata,
    )
    return Accepted([Emit(account_id, 1, event)], {"account_id": account_id})


def post_transaction(command: PostTransaction, state: State, ctx: Context) -> Accepted:
    """Move money now: balanced in each currency, between open accounts, within their limits."""
    ledger = owned(command.ledger_id, state, ctx)
    transaction = command.transaction
    weigh(ledger, transaction, _NOTHING, "/transaction")
    transaction_id = ctx.new_id("transaction")
    event = recorded(ledger.id, transaction_id, transaction, ctx.now_us)
    return Accepted([Emit(transaction_id, 1, event)], {"transaction_id": transaction_id})


def post_batch(command: PostBatch, state: State, ctx: Context) -> Accepted:
    """All or nothing; each transaction sees what those before it moved."""
    ledger = owned(command.ledger_id, state, ctx)
    moved: Changes = {}
    emits = []
    for index, transaction in enumerate(command.transactions):
        for account, change in weigh(ledger, transaction, moved, f"/transactions/{index}").items():
            moved[account] = moved.get(account, 0) + change
        transaction_id = ctx.new_id("transaction", index)
        event = recorded(ledger.id, transaction_id, transaction, ctx.now_us)
        emits.append(Emit(transaction_id, 1, event))
    return Accepted(emits, {"transaction_ids": [emit.stream for emit in emits]})


def reverse_transaction(command: ReverseTransaction, state: State, ctx: Context) -> Accepted:
    """Post the mirror image. It is a posting like any other: accounts must be open, and limits hold.

    A mirror can be reversed in its turn. Reversing the posting of a hold does not open the hold again.
    """
    ledger = owned(command.ledger_id, state, ctx)
    original = state.originals.get(command.transaction_id)
    if original is None or original.ledger_id != ledger.id:
        raise Refusal("transaction-not-found", "/transaction_id")
    require_saga(original.saga_id, ctx, "/transaction_id")
    if original.reversed_by is not None:
        raise Refusal("already-reversed", "/transaction_id")
    if command.effective_at is not None:
        require_open(command.effective_at, ledger.soft_until, "/effective_at")
    entries = mirrored(original.entries)
    try:
        keep_limits(net_changes(ledger, entries, ""), _NOTHING, entries, "")
    except Refusal as refusal:  # the command itself has no entries to point at
        raise Refusal(refusal.reason, "/transaction_id", refusal.detail) from None
    mirror_id = ctx.new_id("transaction")
    fact = TransactionReversed(
        ledger_id=ledger.id, transaction_id=command.transaction_id, reversed_by=mirror_id
    )
    mirror = TransactionPosted(
        ledger_id=ledger.id,
        transaction_id=mirror_id,
        entries=entries,
        effective_at=ctx.now_us if command.effective_at is None else command.effective_at,
        description=command.description,
        reverses=command.transaction_id,
    )
    return Accepted(
        [Emit(command.transaction_id, 2, fact), Emit(mirror_id, 1, mirror)],
        {"transaction_id": mirror_id, "reverses": command.transaction_id},
    )


def set_account_metadata(command: SetAccountMetadata, state: State, ctx: Context) -> Accepted:
    """Merge; an empty value removes its key."""
    ledger = owned(command.ledger_id, state, ctx)
    account = account_of(ledger, command.account_id)
    metadata = {key: value for key, value in (account.metadata | command.metadata).items() if value}
    if len(metadata) > MAX_METADATA:
        raise Refusal("metadata-too-large", "/metadata")
    event = AccountMetadataSet(ledger_id=ledger.id, account_id=account.id, metadata=metadata)
    return Accepted([Emit(account.id, account.version + 1, event)], {"account_id": account.id})


def set_account_limits(command: SetAccountLimits, state: State, ctx: Context) -> Accepted:
    """Replace both limits. The balance must be inside already, open holds counted at their worst."""
    ledger = owned(command.ledger_id, state, ctx)
    account = account_of(ledger, command.account_id)
    require_within(account.reach, command.floor, command.ceiling)
    event = AccountLimitsSet(
        ledger_id=ledger.id, account_id=account.id, floor=command.floor, ceiling=command.ceiling
    )
    return Accepted([Emit(account.id, account.version + 1, event)], {"account_id": account.id})


def close_account(command: CloseAccount, state: State, ctx: Context) -> Accepted:
    """Close for good an account that is empty and that no open hold names."""
    ledger = owned(command.ledger_id, state, ctx)
    account = account_of(ledger, command.account_id)
    if account.balance:
        raise Refusal("account-not-empty", "/account_id")
    if account.open_holds:
        raise Refusal("account-has-holds", "/account_id")
    event = AccountClosed(ledger_id=ledger.id, account_id=account.id)
    return Accepted([Emit(account.id, account.version + 1, event)], {"account_id": account.id})


def require_within(reach: tuple[int, int], floor: int | None, ceiling: int | None) -> None:
    """Limits must be in order, and ``reach`` (lowest, highest balance on the normal side) inside them."""
    if floor is not None and ceiling is not None and floor > ceiling:
        raise Refusal("floor-above-ceiling", "/floor")
    lowest, highest = reach
    if floor is not None and lowest < floor:
        raise Refusal("balance-outside-limits", "/floor", f"available balance is {lowest}, floor is {floor}")
    if ceiling is not None and highest > ceiling:
        raise Refusal(
            "balance-outside-limits", "/ceiling", f"balance is up to {highest}, ceiling is {ceiling}"
        )


RULES: Final[Mapping[type[Command], Callable[[Any, State, Context], Accepted]]] = {
    CreateLedger: create_ledger,
    OpenAccount: open_account,
    PostTransaction: post_transaction,
    PostBatch: post_batch,
    ReverseTransaction: reverse_transaction,
    PlaceHold: holds.place_hold,
    PostHold: holds.post_hold,
    VoidHold: holds.void_hold,
    ExpireHold: holds.expire_hold,
    SetAccountMetadata: set_account_metadata,
    SetAccountLimits: set_account_limits,
    CloseAccount: close_account,
    AdoptChart: adopt_chart,
    RegisterAsset: exchange.register_asset,
    RecordRate: exchange.record_rate,
    Convert: exchange.convert,
    Revalue: exchange.revalue,
    ClosePeriod: periods.close_period,
    ReopenPeriod: periods.reopen_period,
    PostAdjustment: periods.post_adjustment,
    DefineTemplate: templates.define_template,
    ApplyTemplate: templates.apply_template,
}


class LedgerDecider(Decider[State]):
    """The ledger as the engine runs it."""

    service: ClassVar[str] = "ledger"
    state_version: ClassVar[int] = snapshot.STATE_VERSION
    commands: ClassVar[Mapping[str, type[Command]]] = COMMANDS
    events: ClassVar[Mapping[str, type[Event]]] = EVENTS | {f"ledger.{CommandRefused.TYPE}": CommandRefused}

    def initial(self, shard: int) -> State:  # noqa: ARG002 - ids arrive with their shard inside
        return State()

    def decide(self, command: Command, state: State, ctx: Context) -> Accepted | Rejected:
        try:
            return RULES[type(command)](command, state, ctx)
        except Refusal as refusal:
            return Rejected(refusal.reason, refusal.detail, refusal.pointer)

    def evolve(self, state: State, event: Event, meta: EventMeta) -> State:
        evolve.apply(state, event, meta)
        return state

    def dump(self, state: State) -> bytes:
        return snapshot.dump(state)

    def load(self, data: bytes) -> State:
        return snapshot.load(data)

    def check(self, state: State) -> None:
        invariants.check_state(state)

    def check_events(self, events: Iterable[Emit]) -> None:
        invariants.check_appended(events)

    def needs(self, command: Command, state: State) -> Sequence[str]:
        return recall.needed(command, state)

    def hydrate(self, state: State, stream: str, history: Sequence[tuple[Event, EventMeta]]) -> None:
        recall.take_in(state, stream, history)

    def due(self, state: State, now_us: int, limit: int) -> Sequence[Due]:
        return holds.due(state, now_us, limit)

    def next_due(self, state: State) -> int | None:
        first = state.first_deadline()
        return None if first is None else first[0]
