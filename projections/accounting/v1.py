"""View ``accounting``, code 1: a ledger's charts of accounts, assets and rates, its conversions and revaluations, its
periods and what was adjusted in them, and its templates.

It is a view of its own, because it changes rarely: growing it makes no entry and no balance anew.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic_core import to_json
from sqlalchemy import BigInteger, Boolean, Index, Integer, MetaData, SmallInteger, Table, Text

from projections.unit import Unit
from projections.view import SCHEMA, Amount, Data, Id, Json, Meta, Micros, View, appended
from schemas.ledger.chart import ChartAdopted
from schemas.ledger.currencies import AssetRegistered, CurrencyConverted, PositionsRevalued, RateRecorded
from schemas.ledger.periods import AdjustmentPosted, PeriodClosed, PeriodReopened
from schemas.ledger.templates import TemplateDefined

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

#: What a ledger has registered beside the currencies of ISO 4217.
ASSETS: Final = appended(
    _METADATA,
    "registered_assets",
    {"ledger_id": Id, "code": Text},
    places=SmallInteger,
    name=Text,
    recorded_at=Micros,
    tenant=Text,
    shard=SmallInteger,
    position=BigInteger,
)

#: Every rate that was recorded: 1 ``base`` = ``numerator / denominator`` ``quote``.
RATES: Final = appended(
    _METADATA,
    "fx_rates",
    {"rate_id": Id},
    ledger_id=Id,
    base=Text,
    quote=Text,
    numerator=Amount,
    denominator=Amount,
    source=Text,
    observed_at=Micros,
    recorded_at=Micros,
    actor=Text,
    tenant=Text,
    shard=SmallInteger,
    position=BigInteger,
)
Index("ledger", RATES.c.ledger_id, RATES.c.rate_id)
Index("newest", RATES.c.ledger_id, RATES.c.base, RATES.c.quote, RATES.c.observed_at)

CONVERSIONS: Final = appended(
    _METADATA,
    "conversions",
    {"conversion_id": Id},
    ledger_id=Id,
    transaction_id=Id,
    source_account_id=Id,
    target_account_id=Id,
    sold=Amount,
    sold_currency=Text,
    bought=Amount,
    bought_currency=Text,
    fixed=Text,
    numerator=Amount,
    denominator=Amount,
    source=Text,
    observed_at=Micros,
    rate_id=(Id, None),
    inverse=Boolean,
    rounding=Text,
    rounded=Amount,
    remainder_numerator=Amount,
    remainder_denominator=Amount,
    recorded_at=Micros,
    actor=Text,
    tenant=Text,
    shard=SmallInteger,
    position=BigInteger,
)
Index("ledger", CONVERSIONS.c.ledger_id, CONVERSIONS.c.conversion_id)

REVALUATIONS: Final = appended(
    _METADATA,
    "revaluations",
    {"revaluation_id": Id},
    ledger_id=Id,
    transaction_id=(Id, None),
    counter_account_id=Id,
    currency=Text,
    positions=Json,
    carried=Amount,
    unrealised=Amount,
    recorded_at=Micros,
    actor=Text,
    tenant=Text,
    shard=SmallInteger,
    position=BigInteger,
)
Index("ledger", REVALUATIONS.c.ledger_id, REVALUATIONS.c.revaluation_id)

#: Every change of what is closed. The row with the highest position has the marks that hold.
PERIODS: Final = appended(
    _METADATA,
    "periods",
    {"ledger_id": Id, "position": BigInteger},
    change=Text,
    soft_until=Micros,
    hard_until=Micros,
    note=Text,
    recorded_at=Micros,
    actor=Text,
    tenant=Text,
    shard=SmallInteger,
)

ADJUSTMENTS: Final = appended(
    _METADATA,
    "adjustments",
    {"adjustment_id": Id},
    ledger_id=Id,
    transaction_id=Id,
    effective_at=Micros,
    reason=Text,
    recorded_at=Micros,
    actor=Text,
    tenant=Text,
    shard=SmallInteger,
    position=BigInteger,
)
Index("ledger", ADJUSTMENTS.c.ledger_id, ADJUSTMENTS.c.adjustment_id)

#: Every version of every template.
TEMPLATES: Final = appended(
    _METADATA,
    "templates",
    {"template_id": Id},
    ledger_id=Id,
    name=Text,
    number=Integer,
    template=Json,
    recorded_at=Micros,
    actor=Text,
    tenant=Text,
    shard=SmallInteger,
    position=BigInteger,
)
Index("ledger", TEMPLATES.c.ledger_id, TEMPLATES.c.template_id)

VIEW: Final = View(
    "accounting",
    code=1,
    services=("ledger",),
    owner="ledger",
    tables=(CHARTS, ASSETS, RATES, CONVERSIONS, REVALUATIONS, PERIODS, ADJUSTMENTS, TEMPLATES),
)


def _json(value: Any) -> str:
    return to_json(value).decode()


def _fact(table: Table, event: Data, meta: Meta, unit: Unit, **more: Any) -> None:
    """A row of what the event says under the names of the columns, and of its envelope."""
    known = {
        **event,
        **more,
        "actor": meta.actor,
        "recorded_at": meta.time_us,
        "tenant": meta.tenant,
        "shard": meta.shard,
        "position": meta.position,
    }
    unit.append(table, [known.get(column.name) for column in table.columns])


@VIEW.on(ChartAdopted)
def _chart_adopted(event: Data, meta: Meta, unit: Unit) -> None:
    _fact(CHARTS, event, meta, unit, nodes=_json(event["nodes"]), facings=_json(event.get("facings", [])))


@VIEW.on(AssetRegistered)
def _asset_registered(event: Data, meta: Meta, unit: Unit) -> None:
    _fact(ASSETS, event, meta, unit)


@VIEW.on(RateRecorded)
def _rate_recorded(event: Data, meta: Meta, unit: Unit) -> None:
    _fact(RATES, event, meta, unit)


@VIEW.on(CurrencyConverted)
def _converted(event: Data, meta: Meta, unit: Unit) -> None:
    defaults = {"inverse": False, "rounded": 0, "remainder_numerator": 0, "remainder_denominator": 1}
    _fact(CONVERSIONS, defaults | event, meta, unit)


@VIEW.on(PositionsRevalued)
def _revalued(event: Data, meta: Meta, unit: Unit) -> None:
    _fact(REVALUATIONS, event, meta, unit, positions=_json(event["positions"]))


@VIEW.on(PeriodClosed)
def _period_closed(event: Data, meta: Meta, unit: Unit) -> None:
    _fact(PERIODS, {"note": ""} | event, meta, unit, change=f"{event['closing']} close")


@VIEW.on(PeriodReopened)
def _period_reopened(event: Data, meta: Meta, unit: Unit) -> None:
    _fact(PERIODS, {"note": ""} | event, meta, unit, change="reopened")


@VIEW.on(AdjustmentPosted)
def _adjusted(event: Data, meta: Meta, unit: Unit) -> None:
    _fact(ADJUSTMENTS, event, meta, unit)


@VIEW.on(TemplateDefined)
def _template_defined(event: Data, meta: Meta, unit: Unit) -> None:
    _fact(TEMPLATES, event, meta, unit, number=event["version"], template=_json(event["template"]))
