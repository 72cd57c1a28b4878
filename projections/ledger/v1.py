"""View ``ledger``, code 1. One view, because its tables are only worth something at the same position.

Balances follow the ledger's own rule (``services/ledger/state.py``): ``balance`` is the posted balance on the
account's normal side, ``available`` is that less what open holds could take.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pydantic_core import from_json, to_json
from sqlalchemy import Table

from projections.ledger.v1_tables import ACCOUNTS, ENTRIES, HOLDS, LEDGERS, TRANSACTIONS, TRIAL_BALANCES
from projections.unit import Row, Unit
from projections.view import Data, Key, Meta, View
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

Wanted = Iterable[tuple[Table, Key]]

VIEW: Final = View(
    "ledger",
    code=1,
    services=("ledger",),
    owner="ledger",
    tables=(LEDGERS, ACCOUNTS, TRANSACTIONS, ENTRIES, HOLDS, TRIAL_BALANCES),
)


def json_text(value: Any) -> str:
    """JSON text of metadata and the like (amounts may exceed 64 bits)."""
    return to_json(value).decode() if value else ("[]" if isinstance(value, list) else "{}")


# --- accounts and ledgers


@VIEW.on(LedgerCreated)
def _ledger_created(event: Data, meta: Meta, unit: Unit) -> None:
    unit.insert(
        LEDGERS,
        meta,
        ledger_id=event["ledger_id"],
        name=event["name"],
        metadata=json_text(event.get("metadata")),
        accounts=0,
    )


def _opening(event: Data, meta: Meta, _: Unit) -> Wanted:
    yield LEDGERS, event["ledger_id"]
    yield ACCOUNTS, event["account_id"]
    yield TRIAL_BALANCES, (event["ledger_id"], event["currency"], meta.shard)


@VIEW.on(AccountOpened, reads=_opening)
def _account_opened(event: Data, meta: Meta, unit: Unit) -> None:
    ledger = unit.row(LEDGERS, event["ledger_id"])
    unit.change(LEDGERS, event["ledger_id"], meta, accounts=ledger["accounts"] + 1)
    _total(unit, event["ledger_id"], event["currency"], meta)["accounts"] += 1
    unit.insert(
        ACCOUNTS,
        meta,
        account_id=event["account_id"],
        ledger_id=event["ledger_id"],
        code=event["code"],
        name=event.get("name", ""),
        currency=event["currency"],
        normal_side=event["normal_side"],
        status="open",
        floor=event.get("floor"),
        ceiling=event.get("ceiling"),
        posted_debit=0,
        posted_credit=0,
        pending_debit=0,
        pending_credit=0,
        balance=0,
        available=0,
        entries=0,
        open_holds=0,
        metadata=json_text(event.get("metadata")),
    )


def _account(event: Data, _: Meta, __: Unit) -> Wanted:
    yield ACCOUNTS, event["account_id"]


@VIEW.on(AccountMetadataSet, reads=_account)
def _metadata_set(event: Data, meta: Meta, unit: Unit) -> None:
    unit.change(ACCOUNTS, event["account_id"], meta, metadata=json_text(event["metadata"]))


@VIEW.on(AccountLimitsSet, reads=_account)
def _limits_set(event: Data, meta: Meta, unit: Unit) -> None:
    unit.change(ACCOUNTS, event["account_id"], meta, floor=event.get("floor"), ceiling=event.get("ceiling"))


@VIEW.on(AccountClosed, reads=_account)
def _account_closed(event: Data, meta: Meta, unit: Unit) -> None:
    unit.change(ACCOUNTS, event["account_id"], meta, status="closed")


def _total(unit: Unit, ledger_id: str, currency: str, meta: Meta) -> Row:
    """The ledger's totals in a currency; made when there are none yet."""
    key = (ledger_id, currency, meta.shard)
    if unit.find(TRIAL_BALANCES, key) is None:
        zeros = dict.fromkeys(_TOTALS, 0)
        return unit.insert(TRIAL_BALANCES, meta, ledger_id=ledger_id, currency=currency, **zeros)
    return unit.change(TRIAL_BALANCES, key, meta)


_TOTALS: Final = ("accounts", "entries", "posted_debit", "posted_credit", "pending_debit", "pending_credit")


# --- transactions: the hot path, so rows are changed without a call for each column


def _legs(event: Data, meta: Meta, _: Unit) -> Wanted:
    ledger_id = event["ledger_id"]
    for entry in event["entries"]:
        yield ACCOUNTS, entry["account_id"]
        yield TRIAL_BALANCES, (ledger_id, entry["currency"], meta.shard)


@VIEW.on(TransactionPosted, reads=_legs)
def _transaction_posted(event: Data, meta: Meta, unit: Unit) -> None:
    legs: list[Data] = event["entries"]
    ledger_id, transaction_id = event["ledger_id"], event["transaction_id"]
    effective_at = event["effective_at"]
    time_us, position, tenant, shard = meta.time_us, meta.position, meta.tenant, meta.shard
    add = unit.appending(ENTRIES).append
    totals: dict[str, Row] = {}
    for leg, entry in enumerate(legs):
        account_id, side, amount = entry["account_id"], entry["side"], entry["amount"]
        account = unit.row(ACCOUNTS, account_id)
        column = "posted_debit" if side == "debit" else "posted_credit"
        account[column] += amount
        moved = amount if side == account["normal_side"] else -amount
        account["balance"] = balance = account["balance"] + moved
        account["available"] += moved
        account["entries"] = sequence = account["entries"] + 1
        account["version"] += 1
        account["position"] = position
        account["updated_at"] = time_us
        currency = entry["currency"]
        total = totals.get(currency)
        if total is None:
            total = totals[currency] = _total(unit, ledger_id, currency, meta)
        total[column] += amount
        total["entries"] += 1
        add(
            (
                account_id,
                time_us,
                sequence,
                ledger_id,
                transaction_id,
                leg,
                side,
                amount,
                currency,
                effective_at,
                balance,
                tenant,
                shard,
                position,
            )
        )
    unit.insert(
        TRANSACTIONS,
        meta,
        transaction_id=transaction_id,
        ledger_id=ledger_id,
        reference=event.get("reference"),
        description=event.get("description", ""),
        effective_at=effective_at,
        hold_id=event.get("hold_id"),
        reverses=event.get("reverses"),
        reversed_by=None,
        entries=json_text(legs),
        metadata=json_text(event.get("metadata")),
        actor=meta.actor,
        correlation_id=meta.correlation_id,
        recorded_position=position,
    )


def _transaction(event: Data, _: Meta, __: Unit) -> Wanted:
    yield TRANSACTIONS, event["transaction_id"]


@VIEW.on(TransactionReversed, reads=_transaction)
def _transaction_reversed(event: Data, meta: Meta, unit: Unit) -> None:
    unit.change(TRANSACTIONS, event["transaction_id"], meta, reversed_by=event["reversed_by"])


# --- holds


def _placing(event: Data, meta: Meta, _: Unit) -> Wanted:
    yield ACCOUNTS, event["debit_account_id"]
    yield ACCOUNTS, event["credit_account_id"]
    yield TRIAL_BALANCES, (event["ledger_id"], event["currency"], meta.shard)


def _held(event: Data, meta: Meta, unit: Unit) -> Wanted:
    """The hold, and when that is known, what it reserves on."""
    yield HOLDS, event["hold_id"]
    hold = unit.find(HOLDS, event["hold_id"])
    if hold is not None:
        yield from _placing(hold, meta, unit)


def _reserve(unit: Unit, hold: Row, meta: Meta, amount: int, holds: int = 0) -> None:
    """Reserve ``amount`` more (or less) on both accounts of a hold; ``holds`` is how many more are open."""
    total = _total(unit, hold["ledger_id"], hold["currency"], meta)
    for side in ("debit", "credit"):
        account_id = hold[f"{side}_account_id"]
        account = unit.row(ACCOUNTS, account_id)
        account[f"pending_{side}"] += amount
        total[f"pending_{side}"] += amount
        unit.change(
            ACCOUNTS,
            account_id,
            meta,
            available=available(account),
            open_holds=account["open_holds"] + holds,
        )


def available(account: Row) -> int:
    """Posted balance on the normal side less what open holds could take."""
    balance: int = account["balance"]
    pending: int = account["pending_credit" if account["normal_side"] == "debit" else "pending_debit"]
    return balance - pending


@VIEW.on(HoldPlaced, reads=_placing)
def _hold_placed(event: Data, meta: Meta, unit: Unit) -> None:
    hold = unit.insert(
        HOLDS,
        meta,
        hold_id=event["hold_id"],
        ledger_id=event["ledger_id"],
        debit_account_id=event["debit_account_id"],
        credit_account_id=event["credit_account_id"],
        amount=event["amount"],
        currency=event["currency"],
        status="open",
        remaining=event["amount"],
        posted=0,
        released=0,
        expires_at=event.get("expires_at"),
        reference=event.get("reference"),
        reason="",
        transactions="[]",
        metadata=json_text(event.get("metadata")),
    )
    _reserve(unit, hold, meta, event["amount"], 1)


@VIEW.on(HoldPosted, reads=_held)
def _hold_posted(event: Data, meta: Meta, unit: Unit) -> None:
    amount, released, remaining = event["amount"], event.get("released", 0), event["remaining"]
    hold = unit.row(HOLDS, event["hold_id"])
    unit.change(
        HOLDS,
        event["hold_id"],
        meta,
        remaining=remaining,
        posted=hold["posted"] + amount,
        released=hold["released"] + released,
        status="open" if remaining else "posted",
        transactions=json_text([*from_json(hold["transactions"]), event["transaction_id"]]),
    )
    _reserve(unit, hold, meta, -(amount + released), 0 if remaining else -1)


def _release(event: Data, meta: Meta, unit: Unit, status: str) -> None:
    hold = unit.row(HOLDS, event["hold_id"])
    released = event["released"]
    unit.change(
        HOLDS,
        event["hold_id"],
        meta,
        remaining=hold["remaining"] - released,
        released=hold["released"] + released,
        status=status,
        reason=event.get("reason", ""),
    )
    _reserve(unit, hold, meta, -released, -1)


@VIEW.on(HoldVoided, reads=_held)
def _hold_voided(event: Data, meta: Meta, unit: Unit) -> None:
    _release(event, meta, unit, "voided")


@VIEW.on(HoldExpired, reads=_held)
def _hold_expired(event: Data, meta: Meta, unit: Unit) -> None:
    _release(event, meta, unit, "expired")
