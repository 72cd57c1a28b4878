"""What a view is: tables, the services that feed it, and one function for each event type that it takes in.

A view is declared once, in ``projections/<view>/v<code>.py``::

    VIEW = View("holds", code=1, services=("ledger",), owner="ledger", tables=(HOLDS,))

    @VIEW.on(HoldVoided, reads=lambda event, meta, unit: [(HOLDS, event["hold_id"])])
    def _voided(event: dict[str, Any], meta: Meta, unit: Unit) -> None:
        unit.change(HOLDS, event["hold_id"], meta, status="voided", remaining=0)

Folding is pure: it sees rows and events and nothing else, so the same events always give the same rows. That
is what lets a rebuild be compared with the live tables, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

from sqlalchemy import BigInteger, Column, MetaData, Numeric, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import JSONB, UUID

from events.subscription import RawEvent
from schemas.common.base import Event

if TYPE_CHECKING:
    from projections.unit import Unit

#: PostgreSQL schema of all views.
SCHEMA: Final = "views"

Data: TypeAlias = dict[str, Any]
#: Primary key of a row: the one column's value, or a tuple in the order of the table's key.
Key: TypeAlias = Any


class Meta(NamedTuple):
    """Where an event stands in history. ``event`` has the rest of the envelope."""

    type: str
    service: str
    shard: int
    position: int
    time_us: int
    tenant: str
    actor: str
    correlation_id: str
    event: RawEvent


Fold: TypeAlias = Callable[[Data, Meta, "Unit"], None]
Reads: TypeAlias = Callable[[Data, Meta, "Unit"], Iterable[tuple[Table, Key]]]
F = TypeVar("F", bound=Fold)


class Handler(NamedTuple):
    """How one event type changes rows. ``reads`` names the rows that must be in memory before ``fold`` runs."""

    fold: Fold
    reads: Reads | None


@dataclass
class View:
    """A named set of tables that is built, marked, verified and switched as one.

    ``code`` is the version of the module that declares it; ``owner`` the room whose people answer for it.
    ``changed`` are the columns (``table.column``) and tables that this code fills otherwise than the code
    before it: a rebuild does not compare those.
    """

    name: str
    code: int
    services: tuple[str, ...]
    owner: str
    tables: tuple[Table, ...]
    changed: frozenset[str] = frozenset()
    handlers: dict[str, Handler] = field(default_factory=dict)
    #: Takes in events of every type, by their envelope alone.
    each: Fold | None = None
    each_reads: Callable[[Meta], Iterable[tuple[Table, Key]]] | None = None

    def on(
        self, event: type[Event], *, reads: Reads | None = None, type_: str | None = None
    ) -> Callable[[F], F]:
        """Register the function for ``event``; ``type_`` is the stored type when it differs from the class's."""
        name = type_ or event.TYPE

        def register(fold: F) -> F:
            assert name not in self.handlers, f"{name} is taken in twice by {self.name}"
            self.handlers[name] = Handler(fold, reads)
            return fold

        return register

    def table(self, name: str) -> Table:
        """The table of that name."""
        return next(t for t in self.tables if t.name == name)


def columns(**types: Any) -> list[Column[Any]]:
    """Columns in order. ``Text`` and friends are NOT NULL; wrap a type in ``(type, None)`` to allow NULL."""
    out: list[Column[Any]] = []
    for name, kind in types.items():
        nullable = isinstance(kind, tuple)
        out.append(Column(name, kind[0] if nullable else kind, nullable=nullable))
    return out


_EVERY_ROW: Final = {
    "tenant": Text,
    "shard": SmallInteger,
    "position": BigInteger,
    "version": BigInteger,
    "created_at": BigInteger,
    "updated_at": BigInteger,
}


def keyed(
    metadata: MetaData, name: str, key: Mapping[str, Any], /, *, keep: int = 50_000, **types: Any
) -> Table:
    """A table of things that change: ``key``, the given columns, and those that every row has.

    Every row has ``tenant``, ``shard``, ``position`` (of the last event that changed it), ``version`` (of the
    row itself, from 1), ``created_at`` and ``updated_at`` (microseconds; times of events, never of a clock).
    Pages are kept half empty so that an update stays on its page. A runner keeps ``keep`` rows in memory.
    """
    table = Table(
        name,
        metadata,
        *(Column(k, t, primary_key=True, autoincrement=False) for k, t in key.items()),
        *columns(**types),
        *columns(**{n: t for n, t in _EVERY_ROW.items() if n not in key}),
        schema=SCHEMA,
    )
    table.info["keep"] = keep
    table.info["storage"] = {
        "fillfactor": 60,
        "autovacuum_vacuum_scale_factor": 0.05,
        "autovacuum_vacuum_threshold": 5000,
    }
    return table


def appended(metadata: MetaData, name: str, key: Mapping[str, Any], /, **types: Any) -> Table:
    """A table of facts: rows are added and never change, so none has a version."""
    table = Table(
        name,
        metadata,
        *(Column(k, t, primary_key=True, autoincrement=False) for k, t in key.items()),
        *columns(**types),
        schema=SCHEMA,
    )
    table.info["storage"] = {
        "autovacuum_vacuum_insert_scale_factor": 0.2,
        "autovacuum_analyze_scale_factor": 0.1,
    }
    return table


#: Column types, by what they mean.
Id: Final = UUID(as_uuid=False)
Amount: Final = Numeric(asdecimal=False)
Micros: Final = BigInteger
Json: Final = JSONB
