"""View ``compliance``, code 2: screenings, the list entries that they hit, and cases for officers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic_core import to_json
from sqlalchemy import BigInteger, Index, Integer, MetaData, SmallInteger, Table, Text

from projections.unit import Unit
from projections.view import SCHEMA, Data, Id, Json, Key, Meta, Micros, View, appended, keyed
from schemas.compliance.events import CaseDecided, CaseOpened, CaseWithdrawn, ScreeningCompleted

_METADATA: Final = MetaData(schema=SCHEMA)

SCREENINGS: Final = appended(
    _METADATA,
    "screenings",
    {"screening_id": Id},
    payment_id=Id,
    outcome=Text,
    hits=Integer,
    case_id=(Id, None),
    list_version=Text,
    matcher=Text,
    threshold_bp=Integer,
    recorded_at=Micros,
    tenant=Text,
    shard=SmallInteger,
    position=BigInteger,
)
Index("payment", SCREENINGS.c.payment_id)

HITS: Final = appended(
    _METADATA,
    "screening_hits",
    {"screening_id": Id, "ordinal": SmallInteger},
    payment_id=Id,
    role=Text,
    list_id=Text,
    entry_id=Text,
    entry_name=Text,
    matched_name=Text,
    program=Text,
    score_bp=Integer,
    features=Json,
    tenant=Text,
    shard=SmallInteger,
    position=BigInteger,
)
Index("entry", HITS.c.tenant, HITS.c.entry_id)

CASES: Final = keyed(
    _METADATA,
    "cases",
    {"case_id": Id},
    payment_id=Id,
    screening_id=Id,
    status=Text,
    hits=Json,
    decided_by=(Text, None),
    decided_at=(Micros, None),
    note=Text,
    reason=(Text, None),
)
Index("tenant", CASES.c.tenant, CASES.c.case_id)
Index("payment", CASES.c.payment_id)

VIEW: Final = View(
    "compliance",
    code=2,
    services=("compliance",),
    owner="compliance",
    tables=(SCREENINGS, HITS, CASES),
    changed=frozenset({"cases.decided_at"}),
)


@VIEW.on(ScreeningCompleted)
def _screened(event: Data, meta: Meta, unit: Unit) -> None:
    hits = event.get("hits", [])
    screening_id, payment_id = event["screening_id"], event["payment_id"]
    unit.append(
        SCREENINGS,
        (
            screening_id,
            payment_id,
            event["outcome"],
            len(hits),
            event.get("case_id"),
            event["list_version"],
            event["matcher"],
            event["threshold_bp"],
            meta.time_us,
            meta.tenant,
            meta.shard,
            meta.position,
        ),
    )
    names = ("role", "list_id", "entry_id", "entry_name", "matched_name", "program", "score_bp")
    for ordinal, hit in enumerate(hits):
        features = to_json(hit.get("features", [])).decode()
        row = (hit.get(name, "") for name in names)
        unit.append(
            HITS,
            (screening_id, ordinal, payment_id, *row, features, meta.tenant, meta.shard, meta.position),
        )


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
        decided_at=None,
        note="",
        reason=None,
    )


def _case(event: Data, _: Meta, __: Unit) -> Iterable[tuple[Table, Key]]:
    yield CASES, event["case_id"]


@VIEW.on(CaseDecided, reads=_case)
def _decided(event: Data, meta: Meta, unit: Unit) -> None:
    unit.change(
        CASES,
        event["case_id"],
        meta,
        status={"release": "released", "block": "blocked"}[event["decision"]],
        decided_by=meta.actor,
        decided_at=meta.time_us,
        note=event.get("note", ""),
        reason=event.get("reason"),
    )


@VIEW.on(CaseWithdrawn, reads=_case)
def _withdrawn(event: Data, meta: Meta, unit: Unit) -> None:
    unit.change(CASES, event["case_id"], meta, status="withdrawn", reason=event["reason"])
