"""View ``payments``, code 2: each payment as it stands, its timeline, its refunds.

Names of the parties are here because people search payments by them; schema ``analytics`` leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pydantic_core import to_json
from sqlalchemy import BigInteger, Index, Integer, MetaData, SmallInteger, Table, Text, text

from projections.unit import Unit
from projections.view import SCHEMA, Amount, Data, Id, Json, Key, Meta, Micros, View, appended, keyed
from schemas.payments.events import (
    CancellationRequested,
    PaymentFailed,
    PaymentHeld,
    PaymentInitiated,
    PaymentPosted,
    PaymentScored,
    PaymentScreened,
    PaymentSettled,
    RefundFailed,
    RefundRequested,
    RefundSettled,
)

_METADATA: Final = MetaData(schema=SCHEMA)

PAYMENTS: Final = keyed(
    _METADATA,
    "payments",
    {"payment_id": Id},
    ledger_id=Id,
    status=Text,
    amount=Amount,
    currency=Text,
    payer=Json,
    payee=Json,
    external_reference=(Text, None),
    description=Text,
    score_bp=(Integer, None),
    decision=(Text, None),
    screening=(Text, None),
    case_id=(Id, None),
    hold_id=(Id, None),
    transaction_id=(Id, None),
    rail=(Text, None),
    reason=(Text, None),
    detail=Text,
    refunded=Amount,
    refunding=Amount,
    metadata=Json,
)
Index("tenant", PAYMENTS.c.tenant, PAYMENTS.c.payment_id)
#: The search index follows the view by this one.
Index("changed", PAYMENTS.c.shard, PAYMENTS.c.position)
Index(
    "reference",
    PAYMENTS.c.tenant,
    PAYMENTS.c.external_reference,
    postgresql_where=text("external_reference IS NOT NULL"),
)

#: What happened to a payment, in order. ``detail`` has what is worth telling of the event.
PAYMENT_EVENTS: Final = appended(
    _METADATA,
    "payment_events",
    {"payment_id": Id, "position": BigInteger},
    event=Text,
    at=Micros,
    actor=Text,
    detail=Json,
    tenant=Text,
    shard=SmallInteger,
)

REFUNDS: Final = keyed(
    _METADATA,
    "refunds",
    {"refund_id": Id},
    payment_id=Id,
    amount=Amount,
    currency=Text,
    status=Text,
    transaction_id=(Id, None),
    reason=Text,
)
Index("payment", REFUNDS.c.payment_id, REFUNDS.c.refund_id)

VIEW: Final = View(
    "payments",
    code=2,
    services=("payments",),
    owner="payments",
    tables=(PAYMENTS, PAYMENT_EVENTS, REFUNDS),
    # Code 1 kept the timeline in a column and forgot a cancellation as soon as the next event came.
    changed=frozenset(
        f"payments.{column}" for column in ("status", "decision", "screening", "rail", "detail")
    ),
)
Wanted = Iterable[tuple[Table, Key]]


def _happened(unit: Unit, event: Data, meta: Meta, *told: str) -> None:
    """A line of the timeline; ``told`` are the fields of the event that it shows."""
    detail = {name: event[name] for name in told if event.get(name) is not None}
    name = meta.type.split(".")[1]
    unit.append(
        PAYMENT_EVENTS,
        (
            event["payment_id"],
            meta.position,
            name,
            meta.time_us,
            meta.actor,
            to_json(detail).decode(),
            meta.tenant,
            meta.shard,
        ),
    )


@VIEW.on(PaymentInitiated)
def _initiated(event: Data, meta: Meta, unit: Unit) -> None:
    unset = ("score_bp", "decision", "screening", "case_id", "hold_id", "transaction_id", "rail", "reason")
    unit.insert(
        PAYMENTS,
        meta,
        payment_id=event["payment_id"],
        ledger_id=event["ledger_id"],
        status="initiated",
        amount=event["amount"],
        currency=event["currency"],
        payer=to_json(event["payer"]).decode(),
        payee=to_json(event["payee"]).decode(),
        external_reference=event.get("external_reference"),
        description=event.get("description", ""),
        **dict.fromkeys(unset),
        detail="",
        refunded=0,
        refunding=0,
        metadata=to_json(event.get("metadata") or {}).decode(),
    )
    _happened(unit, event, meta)


def _payment(event: Data, _: Meta, __: Unit) -> Wanted:
    yield PAYMENTS, event["payment_id"]


def _step(unit: Unit, event: Data, meta: Meta, status: str | None = None, **values: Any) -> None:
    """Change the payment. A payment that is being cancelled shows that until it ends or its money has moved."""
    row = unit.row(PAYMENTS, event["payment_id"])
    if status is not None and not (row["status"] == "cancelling" and status in _UNDER_WAY):
        values["status"] = status
    unit.change(PAYMENTS, event["payment_id"], meta, **values)


_UNDER_WAY: Final = frozenset({"initiated", "in-review", "held"})


@VIEW.on(PaymentScored, reads=_payment)
def _scored(event: Data, meta: Meta, unit: Unit) -> None:
    _step(unit, event, meta, score_bp=event["score_bp"], decision=event["decision"])
    _happened(unit, event, meta, "score_bp", "decision")


@VIEW.on(PaymentScreened, reads=_payment)
def _screened(event: Data, meta: Meta, unit: Unit) -> None:
    outcome = event["outcome"]
    status = "in-review" if outcome == "review" else "initiated"
    case = {"case_id": event["case_id"]} if event.get("case_id") else {}
    _step(unit, event, meta, status, screening=outcome, **case)
    _happened(unit, event, meta, "outcome", "case_id")


@VIEW.on(PaymentHeld, reads=_payment)
def _held(event: Data, meta: Meta, unit: Unit) -> None:
    _step(unit, event, meta, "held", hold_id=event["hold_id"])
    _happened(unit, event, meta, "hold_id")


@VIEW.on(PaymentPosted, reads=_payment)
def _posted(event: Data, meta: Meta, unit: Unit) -> None:
    _step(unit, event, meta, "posted", transaction_id=event["transaction_id"])
    _happened(unit, event, meta, "transaction_id")


@VIEW.on(PaymentSettled, reads=_payment)
def _settled(event: Data, meta: Meta, unit: Unit) -> None:
    _step(unit, event, meta, "settled", rail=event["rail"])
    _happened(unit, event, meta, "rail")


@VIEW.on(CancellationRequested, reads=_payment)
def _cancelling(event: Data, meta: Meta, unit: Unit) -> None:
    _step(unit, event, meta, "cancelling")
    _happened(unit, event, meta, "reason")


@VIEW.on(PaymentFailed, reads=_payment)
def _failed(event: Data, meta: Meta, unit: Unit) -> None:
    _step(unit, event, meta, event["outcome"], reason=event["reason"], detail=event.get("detail", ""))
    _happened(unit, event, meta, "outcome", "reason")


# --- refunds


def _refund(event: Data, _: Meta, __: Unit) -> Wanted:
    yield PAYMENTS, event["payment_id"]
    yield REFUNDS, event["refund_id"]


@VIEW.on(RefundRequested, reads=_payment)
def _refunding(event: Data, meta: Meta, unit: Unit) -> None:
    row = unit.row(PAYMENTS, event["payment_id"])
    _step(unit, event, meta, refunding=row["refunding"] + event["amount"])
    unit.insert(
        REFUNDS,
        meta,
        refund_id=event["refund_id"],
        payment_id=event["payment_id"],
        amount=event["amount"],
        currency=event["currency"],
        status="requested",
        transaction_id=None,
        reason=event.get("reason", ""),
    )
    _happened(unit, event, meta, "refund_id", "amount")


@VIEW.on(RefundSettled, reads=_refund)
def _refunded(event: Data, meta: Meta, unit: Unit) -> None:
    row, amount = unit.row(PAYMENTS, event["payment_id"]), event["amount"]
    _step(unit, event, meta, refunding=row["refunding"] - amount, refunded=row["refunded"] + amount)
    unit.change(REFUNDS, event["refund_id"], meta, status="settled", transaction_id=event["transaction_id"])
    _happened(unit, event, meta, "refund_id", "amount", "transaction_id")


@VIEW.on(RefundFailed, reads=_refund)
def _refund_failed(event: Data, meta: Meta, unit: Unit) -> None:
    row = unit.row(PAYMENTS, event["payment_id"])
    _step(unit, event, meta, refunding=row["refunding"] - event["amount"])
    unit.change(REFUNDS, event["refund_id"], meta, status="failed", reason=event["reason"])
    _happened(unit, event, meta, "refund_id", "amount", "reason")
