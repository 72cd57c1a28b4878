"""View ``sagas``, code 1: where each payment saga stands, for the people who run the system."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic_core import to_json
from sqlalchemy import Index, Integer, MetaData, Table, Text, text

from projections.unit import Unit
from projections.view import SCHEMA, Data, Id, Json, Key, Meta, Micros, View, keyed
from schemas.sagas.events import SagaEnded, SagaStepped

_METADATA: Final = MetaData(schema=SCHEMA)
_NOTHING: Final = "{}"

SAGAS: Final = keyed(
    _METADATA,
    "sagas",
    {"saga_id": Id},
    status=Text,
    observed=Text,
    steps=Integer,
    deadline_at=(Micros, None),
    outcome=(Text, None),
    reason=(Text, None),
    state=Json,
    token=Json,
)
Index("open", SAGAS.c.updated_at, postgresql_where=text("status = 'running'"))

VIEW: Final = View("sagas", code=1, services=("payment-saga",), owner="sagas", tables=(SAGAS,))


def _saga(event: Data, _: Meta, __: Unit) -> Iterable[tuple[Table, Key]]:
    yield SAGAS, event["saga_id"]


@VIEW.on(SagaStepped, reads=_saga)
def _stepped(event: Data, meta: Meta, unit: Unit) -> None:
    saga_id = event["saga_id"]
    row = unit.find(SAGAS, saga_id)
    if row is None:
        empty = dict.fromkeys(("deadline_at", "outcome", "reason"))
        row = unit.insert(
            SAGAS,
            meta,
            saga_id=saga_id,
            status="running",
            observed="",
            steps=0,
            state=_NOTHING,
            token=_NOTHING,
            **empty,
        )
    unit.change(
        SAGAS,
        saga_id,
        meta,
        status="running" if row["outcome"] is None else row["status"],
        observed=event["observed"],
        steps=row["steps"] + 1,
        deadline_at=event.get("deadline_us"),
        state=to_json(event["state"]).decode(),
    )


@VIEW.on(SagaEnded, reads=_saga)
def _ended(event: Data, meta: Meta, unit: Unit) -> None:
    unit.change(
        SAGAS,
        event["saga_id"],
        meta,
        status="ended",
        deadline_at=None,
        outcome=event["outcome"],
        reason=event.get("reason"),
        token=to_json(event.get("token") or {}).decode(),
    )
