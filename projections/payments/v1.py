"""View ``payments``, code 1: each payment as it stands, with its timeline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pydantic_core import from_json, to_json
from sqlalchemy import BigInteger, Index, Integer, MetaData, Table, Text, text

from projections.unit import Row, Unit
from projections.view import SCHEMA, Amount, Data, Id, Json, Key, Meta, View, keyed
from schemas.common.envelope import rfc3339
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
    case_id=(Id, None),
    hold_id=(Id, None),
    transaction_id=(Id, None),
    reason=(Text, None),
    refunded=Amount,
    refunding=Amount,
    timeline=Json,
    metadata=Json,
    recorded_position=BigInteger,
)
Index("tenant", PAYMENTS.c.tenant, PAYMENTS.c.payment_id)
Index("changed", PAYMENTS.c.shard, PAYMENTS.c.position)
Index(
    "reference",
    PAYMENTS.c.tenant,
    PAYMENTS.c.external_reference,
    postgresql_where=text("external_reference IS NOT NULL"),
)

VIEW: Final = View("payments", code=1, services=("payments",), owner="payments", tables=(PAYMENTS,))


def _step(meta: Meta, **more: Any) -> dict[str, Any]:
    return {"event": meta.type.split(".")[1], "at": rfc3339(meta.time_us), "actor": meta.actor, **more}


@VIEW.on(PaymentInitiated)
def _initiated(event: Data, meta: Meta, unit: Unit) -> None:
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
        score_bp=None,
        case_id=None,
        hold_id=None,
        transaction_id=None,
        reason=None,
        refunded=0,
        refunding=0,
        timeline=to_json([_step(meta)]).decode(),
        metadata=to_json(event.get("metadata") or {}).decode(),
        recorded_position=meta.position,
    )


def _payment(event: Data, _: Meta, __: Unit) -> Iterable[tuple[Table, Key]]:
    yield PAYMENTS, event["payment_id"]


def _change(unit: Unit, event: Data, meta: Meta, step: dict[str, Any] | None = None, **values: Any) -> Row:
    row = unit.row(PAYMENTS, event["payment_id"])
    timeline = [*from_json(row["timeline"]), _step(meta, **(step or {}))]
    return unit.change(PAYMENTS, event["payment_id"], meta, timeline=to_json(timeline).decode(), **values)


@VIEW.on(PaymentScored, reads=_payment)
def _scored(event: Data, meta: Meta, unit: Unit) -> None:
    _change(unit, event, meta, {"decision": event["decision"]}, score_bp=event["score_bp"])


@VIEW.on(PaymentScreened, reads=_payment)
def _screened(event: Data, meta: Meta, unit: Unit) -> None:
    status = {"review": "in-review"}.get(event["outcome"], "initiated")
    case = {"case_id": event["case_id"]} if event.get("case_id") else {}
    _change(unit, event, meta, {"outcome": event["outcome"]}, status=status, **case)


@VIEW.on(PaymentHeld, reads=_payment)
def _held(event: Data, meta: Meta, unit: Unit) -> None:
    _change(unit, event, meta, status="held", hold_id=event["hold_id"])


@VIEW.on(PaymentPosted, reads=_payment)
def _posted(event: Data, meta: Meta, unit: Unit) -> None:
    _change(unit, event, meta, status="posted", transaction_id=event["transaction_id"])


@VIEW.on(PaymentSettled, reads=_payment)
def _settled(event: Data, meta: Meta, unit: Unit) -> None:
    _change(unit, event, meta, {"rail": event["rail"]}, status="settled")


@VIEW.on(CancellationRequested, reads=_payment)
def _cancelling(event: Data, meta: Meta, unit: Unit) -> None:
    _change(unit, event, meta, status="cancelling")


@VIEW.on(PaymentFailed, reads=_payment)
def _failed(event: Data, meta: Meta, unit: Unit) -> None:
    _change(unit, event, meta, {"reason": event["reason"]}, status=event["outcome"], reason=event["reason"])


@VIEW.on(RefundRequested, reads=_payment)
def _refunding(event: Data, meta: Meta, unit: Unit) -> None:
    row = unit.row(PAYMENTS, event["payment_id"])
    step = {"refund_id": event["refund_id"], "amount": event["amount"]}
    _change(unit, event, meta, step, refunding=row["refunding"] + event["amount"])


@VIEW.on(RefundSettled, reads=_payment)
def _refunded(event: Data, meta: Meta, unit: Unit) -> None:
    row = unit.row(PAYMENTS, event["payment_id"])
    _change(
        unit,
        event,
        meta,
        {"refund_id": event["refund_id"], "amount": event["amount"]},
        refunding=row["refunding"] - event["amount"],
        refunded=row["refunded"] + event["amount"],
    )


@VIEW.on(RefundFailed, reads=_payment)
def _refund_failed(event: Data, meta: Meta, unit: Unit) -> None:
    row = unit.row(PAYMENTS, event["payment_id"])
    step = {"refund_id": event["refund_id"], "reason": event["reason"]}
    _change(unit, event, meta, step, refunding=row["refunding"] - event["amount"])
