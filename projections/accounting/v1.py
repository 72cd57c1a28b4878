"""View ``accounting``, code 1: the charts of accounts that a ledger has had.

It is a view of its own, because it changes rarely: growing it makes no entry and no balance anew.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic_core import to_json
from sqlalchemy import BigInteger, Integer, MetaData, SmallInteger, Text

from projections.unit import Unit
from projections.view import SCHEMA, Data, Id, Json, Meta, Micros, View, appended
from schemas.ledger.chart import ChartAdopted

_METADATA: Final = MetaData(schema=SCHEMA)

#: Every chart that a ledger has adopted. The one in force at a position is the last adopted up to it.
CHARTS: Final = appended(
    _METADATA,
    "charts",
    {"ledger_id": Id, "revision": Integer},
    template=(Text, None),
    nodes=Json,
    facings=Json,
    actor=Text,
    recorded_at=Micros,
    tenant=Text,
    shard=SmallInteger,
    position=BigInteger,
)

VIEW: Final = View("accounting", code=1, services=("ledger",), owner="ledger", tables=(CHARTS,))


def _json(value: Any) -> str:
    return to_json(value).decode()


@VIEW.on(ChartAdopted)
def _chart_adopted(event: Data, meta: Meta, unit: Unit) -> None:
    unit.append(
        CHARTS,
        (
            event["ledger_id"],
            event["revision"],
            event.get("template"),
            _json(event["nodes"]),
            _json(event.get("facings", [])),
            meta.actor,
            meta.time_us,
            meta.tenant,
            meta.shard,
            meta.position,
        ),
    )
