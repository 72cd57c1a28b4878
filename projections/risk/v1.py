"""View ``risk``, code 1: what the AI service said about each payment, and why."""

from __future__ import annotations

from typing import Final

from pydantic_core import to_json
from sqlalchemy import BigInteger, Index, Integer, MetaData, SmallInteger, Text

from projections.unit import Unit
from projections.view import SCHEMA, Amount, Data, Id, Json, Meta, Micros, View, appended
from schemas.ai.events import PaymentScored

_METADATA: Final = MetaData(schema=SCHEMA)

SCORES: Final = appended(
    _METADATA,
    "scores",
    {"score_id": Id},
    payment_id=Id,
    payer_account_id=Id,
    payee_account_id=Id,
    amount=Amount,
    currency=Text,
    score_bp=Integer,
    decision=Text,
    threshold_bp=Integer,
    model=Text,
    model_version=Text,
    model_sha256=Text,
    features=Json,
    reasons=Json,
    recorded_at=Micros,
    tenant=Text,
    shard=SmallInteger,
    position=BigInteger,
)
Index("tenant", SCORES.c.tenant, SCORES.c.score_id)
Index("payment", SCORES.c.payment_id)

VIEW: Final = View("risk", code=1, services=("ai",), owner="ai", tables=(SCORES,))
_PLAIN: Final = [c.name for c in SCORES.columns][:12]


@VIEW.on(PaymentScored)
def _scored(event: Data, meta: Meta, unit: Unit) -> None:
    plain = (event[name] for name in _PLAIN)
    features = to_json(event.get("features") or {}).decode()
    reasons = to_json(event.get("reasons") or []).decode()
    unit.append(SCORES, (*plain, features, reasons, meta.time_us, meta.tenant, meta.shard, meta.position))
