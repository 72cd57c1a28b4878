"""What each event does to memory. Nothing is judged here: an event has happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from events.decider import EventMeta
from schemas.common.base import Event
from schemas.common.outcomes import CommandRefused
from schemas.ledger.chart import ChartAdopted
from schemas.ledger.currencies import AssetRegistered, CurrencyConverted, PositionsRevalued, RateRecorded
from schemas.ledger.events import (
    AccountClosed,
    AccountLimitsSet,
    AccountMetadataSet,
    AccountOpened,
    HoldExpired,
    HoldPlaced,
    HoldPosted,
    HoldVoided,
    LedgerCreated,
    TransactionPosted,
    TransactionReversed,
)
from schemas.ledger.periods import AdjustmentPosted, PeriodClosed, PeriodReopened
from schemas.ledger.templates import TemplateDefined
from services.ledger.chart import Chart
from services.ledger.state import Account, Hold, KnownRate, Ledger, State
from services.ledger.templates import take_template


def apply(state: State, event: Event, meta: EventMeta) -> None:
    """Change ``state`` by ``event``. Every stored event of a known type applies."""
    _EFFECTS[type(event)](state, event, meta)


def _transaction_posted(state: State, event: TransactionPosted, _: EventMeta) -> None:
    accounts = state.ledgers[event.ledger_id].accounts
    for entry in event.entries:
        if entry.side == "debit":
            accounts[entry.account_id].balance += entry.amount
        else:
            accounts[entry.account_id].balance -= entry.amount


def _transaction_reversed(state: State, event: TransactionReversed, _: EventMeta) -> None:
    original = state.originals.get(event.transaction_id)
    if original is not None:
        original.reversed_by = event.reversed_by


def _ledger_created(state: State, event: LedgerCreated, meta: EventMeta) -> None:
    state.ledgers[event.ledger_id] = Ledger(event.ledger_id, meta.tenant)


def _account_opened(state: State, event: AccountOpened, _: EventMeta) -> None:
    account = Account(event.account_id, event.code, event.currency, event.normal_side, event.metadata)
    account.limit(event.floor, event.ceiling)
    ledger = state.ledgers[event.ledger_id]
    ledger.accounts[account.id] = account
    ledger.codes[account.code] = account.id
    if ledger.chart is not None:
        account.may_debit, account.may_credit = ledger.chart.parts_of(account.code)


def _chart_adopted(state: State, event: ChartAdopted, meta: EventMeta) -> None:
    ledger = state.ledgers[event.ledger_id]
    ledger.take_chart(Chart(event.revision, event.template, event.nodes, event.facings))
    ledger.version = meta.version


def _asset_registered(state: State, event: AssetRegistered, meta: EventMeta) -> None:
    ledger = state.ledgers[event.ledger_id]
    ledger.assets[event.code] = event.places
    ledger.version = meta.version


def _rate_recorded(state: State, event: RateRecorded, _: EventMeta) -> None:
    rate = KnownRate(event.rate_id, event.numerator, event.denominator, event.source, event.observed_at)
    state.ledgers[event.ledger_id].take_rate((event.base, event.quote), rate)


def _period_marked(state: State, event: PeriodClosed | PeriodReopened, meta: EventMeta) -> None:
    ledger = state.ledgers[event.ledger_id]
    ledger.soft_until, ledger.hard_until = event.soft_until, event.hard_until
    ledger.version = meta.version


def _template_defined(state: State, event: TemplateDefined, _: EventMeta) -> None:
    take_template(state.ledgers[event.ledger_id], event)


def _account_metadata_set(state: State, event: AccountMetadataSet, meta: EventMeta) -> None:
    account = state.ledgers[event.ledger_id].accounts[event.account_id]
    account.metadata = event.metadata
    account.version = meta.version


def _account_limits_set(state: State, event: AccountLimitsSet, meta: EventMeta) -> None:
    account = state.ledgers[event.ledger_id].accounts[event.account_id]
    account.limit(event.floor, event.ceiling)
    account.version = meta.version


def _account_closed(state: State, event: AccountClosed, _: EventMeta) -> None:
    ledger = state.ledgers[event.ledger_id]
    ledger.closed[event.account_id] = ledger.accounts.pop(event.account_id).code


def _hold_placed(state: State, event: HoldPlaced, meta: EventMeta) -> None:
    ledger = state.ledgers[event.ledger_id]
    debit, credit = ledger.accounts[event.debit_account_id], ledger.accounts[event.credit_account_id]
    hold = Hold(event.hold_id, debit, credit, event.expires_at, event.reference, meta.saga_id)
    hold.reserve(event.amount)
    ledger.holds[hold.id] = hold
    state.add_deadline(ledger.id, hold)


def _hold_posted(state: State, event: HoldPosted, meta: EventMeta) -> None:
    ledger = state.ledgers[event.ledger_id]
    hold = ledger.holds[event.hold_id]
    hold.release(event.amount + event.released)
    hold.version = meta.version
    assert hold.remaining == event.remaining
    if not event.remaining:
        _end(state, ledger, hold)


def _hold_released(state: State, event: HoldVoided | HoldExpired, _: EventMeta) -> None:
    ledger = state.ledgers[event.ledger_id]
    hold = ledger.holds[event.hold_id]
    hold.release(event.released)
    _end(state, ledger, hold)


def _end(state: State, ledger: Ledger, hold: Hold) -> None:
    del ledger.holds[hold.id]
    state.drop_deadline(hold)


def _nothing(_: State, __: Event, ___: EventMeta) -> None:
    """What memory needs nothing of: refusals that a saga hears, and accounts of what other events have done."""


_EFFECTS: Final[dict[type[Event], Callable[[State, Any, EventMeta], None]]] = {
    TransactionPosted: _transaction_posted,
    TransactionReversed: _transaction_reversed,
    LedgerCreated: _ledger_created,
    AccountOpened: _account_opened,
    AccountMetadataSet: _account_metadata_set,
    AccountLimitsSet: _account_limits_set,
    AccountClosed: _account_closed,
    ChartAdopted: _chart_adopted,
    AssetRegistered: _asset_registered,
    RateRecorded: _rate_recorded,
    CurrencyConverted: _nothing,
    PositionsRevalued: _nothing,
    PeriodClosed: _period_marked,
    PeriodReopened: _period_marked,
    AdjustmentPosted: _nothing,
    TemplateDefined: _template_defined,
    HoldPlaced: _hold_placed,
    HoldPosted: _hold_posted,
    HoldVoided: _hold_released,
    HoldExpired: _hold_released,
    CommandRefused: _nothing,
}
