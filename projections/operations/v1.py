"""View ``operations``, code 1: what each request has caused, in every service it reached.

Made from envelopes alone. An operation's id is the correlation id of its events, which is the id of the command
that began it; it has one row for each (service, shard) where something happened because of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import BigInteger, Index, Integer, MetaData, SmallInteger, Table, Text

from projections.unit import Unit
from projections.view import SCHEMA, Data, Key, Meta, View, keyed
from schemas.common.outcomes import CommandRefused

_METADATA: Final = MetaData(schema=SCHEMA)

#: ``operation_id`` is text: a correlation id may be anything that a caller's trace begins with.
OPERATIONS: Final = keyed(
    _METADATA,
    "operations",
    {"operation_id": Text, "service": Text, "shard": SmallInteger},
    events=Integer,
    refusals=Integer,
    first_position=BigInteger,
    first_event=Text,
    last_event=Text,
    subject=Text,
    actor=Text,
    keep=20_000,
)
Index("tenant", OPERATIONS.c.tenant, OPERATIONS.c.created_at, OPERATIONS.c.operation_id)

VIEW: Final = View(
    "operations",
    code=1,
    services=("ledger", "payments", "compliance", "ai", "payment-saga"),
    owner="gateway",
    tables=(OPERATIONS,),
)


def _reads(meta: Meta) -> Iterable[tuple[Table, Key]]:
    return ((OPERATIONS, (meta.correlation_id, meta.service, meta.shard)),)


def _took_part(_: Data, meta: Meta, unit: Unit) -> None:
    key = (meta.correlation_id, meta.service, meta.shard)
    refused = int(meta.type.endswith(CommandRefused.TYPE))
    row = unit.find(OPERATIONS, key)
    if row is None:
        unit.insert(
            OPERATIONS,
            meta,
            operation_id=meta.correlation_id,
            service=meta.service,
            events=1,
            refusals=refused,
            first_position=meta.position,
            first_event=meta.type,
            last_event=meta.type,
            subject=meta.event.text("ce_subject"),
            actor=meta.actor,
        )
        return
    unit.change(
        OPERATIONS,
        key,
        meta,
        events=row["events"] + 1,
        refusals=row["refusals"] + refused,
        last_event=meta.type,
    )


VIEW.each = _took_part
VIEW.each_reads = _reads
