"""View ``compliance``, code 1: cases with their hits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic_core import to_json
from sqlalchemy import Index, MetaData, Table, Text

from projections.unit import Unit
from projections.view import SCHEMA, Data, Id, Json, Key, Meta, View, keyed
from schemas.compliance.events import CaseDecided, CaseOpened, CaseWithdrawn

_METADATA: Final = MetaData(schema=SCHEMA)

CASES: Final = keyed(
    _METADATA,
    "cases",
    {"case_id": Id},
    payment_id=Id,
    screening_id=Id,
    status=Text,
    hits=Json,
    decided_by=(Text, None),
    note=Text,
    reason=(Text, None),
)
Index("tenant", CASES.c.tenant, CASES.c.case_id)
Index("payment", CASES.c.payment_id)

VIEW: Final = View("compliance", code=1, services=("compliance",), owner="compliance", tables=(CASES,))


@VIEW.on(CaseOpened)
def _opened(event: Data, meta: Meta, unit: Unit) -> None:
    unit.insert(
        CASES,
        meta,
        case_id=event["case_id"],
        payment_id=event["payment_id"],
        screening_id=event["screening_id"],
        status="open",
        hits=to_json(event["hits"]).decode(),
        decided_by=None,
        note="",
        reason=None,
    )


def _case(event: Data, _: Meta, __: Unit) -> Iterable[tuple[Table, Key]]:
    yield CASES, event["case_id"]


@VIEW.on(CaseDecided, reads=_case)
def _decided(event: Data, meta: Meta, unit: Unit) -> None:
    status = {"release": "released", "block": "blocked"}[event["decision"]]
    unit.change(
        CASES,
        event["case_id"],
        meta,
        status=status,
        decided_by=meta.actor,
        note=event.get("note", ""),
        reason=event.get("reason"),
    )


@VIEW.on(CaseWithdrawn, reads=_case)
def _withdrawn(event: Data, meta: Meta, unit: Unit) -> None:
    unit.change(CASES, event["case_id"], meta, status="withdrawn", reason=event["reason"])
