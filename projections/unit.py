"""The unit of work of a batch: rows read once, changed in memory, written together.

A runner is the only writer of a version's tables (its marks see to that), so rows that were read stay valid
from batch to batch and are kept, bounded. After a failed commit the whole unit is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

from pydantic_core import to_json
from sqlalchemy import Numeric, Table
from sqlalchemy.dialects.postgresql import JSONB, UUID

from projections.copytext import RowFormat
from projections.view import Key, Meta

Row = dict[str, Any]


class MissingRowError(LookupError):
    """An event changes a row that no earlier event made: the view is damaged, or its code is wrong."""


def _json_text(value: Any) -> str:
    """Rows hold JSON as text, as the folds write it; a driver may have parsed it already."""
    return value if isinstance(value, str) else to_json(value).decode()


_CONVERT: Final = ((Numeric, int), (UUID, str), (JSONB, _json_text))


class _Rows:
    """One table's rows in memory. A key that was looked for and not found is remembered as ``None``."""

    __slots__ = (
        "added",
        "appended",
        "changed",
        "convert",
        "flying",
        "format",
        "key",
        "rows",
        "table",
        "values",
    )

    def __init__(self, table: Table) -> None:
        self.table = table
        self.format = RowFormat(table)
        key = [c.name for c in table.primary_key.columns]
        self.key: list[str] = key
        self.values = itemgetter(*self.format.names)
        self.convert = [
            (c.name, next(convert for kind, convert in _CONVERT if isinstance(c.type, kind)))
            for c in table.columns
            if isinstance(c.type, (Numeric, UUID, JSONB))
        ]
        self.rows: dict[Key, Row | None] = {}
        self.added: dict[Key, Row] = {}
        self.changed: dict[Key, Row] = {}
        self.appended: list[Sequence[Any]] = []
        self.flying: dict[Key, Row | None] = {}


@dataclass(slots=True)
class TableChange:
    """What a batch writes to one table, in COPY's text format."""

    table: Table
    insert: bytes = b""
    inserted: int = 0
    update: bytes = b""
    updated: int = 0


@dataclass(slots=True)
class Change:
    """What a batch writes."""

    tables: list[TableChange] = field(default_factory=list)


class Unit:
    """Rows of one version of a view, as one runner sees them."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self._tables = {t.name: _Rows(t) for t in tables}

    # ------------------------------------------------------------------ what a fold uses

    def row(self, table: Table, key: Key) -> Row:
        """A row to be changed in place; it is written with the batch. :class:`MissingRowError` when absent."""
        rows = self._tables[table.name]
        row = rows.rows.get(key)
        if row is None:
            raise MissingRowError(f"{table.name} has no row {key}")
        if key not in rows.added:
            rows.changed[key] = row
        return row

    def find(self, table: Table, key: Key) -> Row | None:
        """A row to look at, or ``None``."""
        return self._tables[table.name].rows.get(key)

    def insert(self, table: Table, meta: Meta, **values: Any) -> Row:
        """A new row of a keyed table; the columns that every row has are filled in. The row."""
        rows = self._tables[table.name]
        values.update(
            tenant=meta.tenant,
            shard=meta.shard,
            position=meta.position,
            version=1,
            created_at=meta.time_us,
            updated_at=meta.time_us,
        )
        key = values[rows.key[0]] if len(rows.key) == 1 else tuple(values[k] for k in rows.key)
        if rows.rows.get(key) is not None:
            raise MissingRowError(f"{table.name} already has a row {key}")
        rows.rows[key] = values
        rows.added[key] = values
        return values

    def change(self, table: Table, key: Key, meta: Meta, **values: Any) -> Row:
        """Set columns of a row that exists, and count its version up. The row."""
        row = self.row(table, key)
        row.update(values)
        row["version"] += 1
        row["position"] = meta.position
        row["updated_at"] = meta.time_us
        return row

    def append(self, table: Table, values: Sequence[Any]) -> None:
        """A row of a table of facts, in the order of its columns; JSON as text."""
        self._tables[table.name].appended.append(values)

    def appending(self, table: Table) -> list[Sequence[Any]]:
        """The list that :meth:`append` appends to, for a hot loop."""
        return self._tables[table.name].appended

    # ------------------------------------------------------------------ what the runner uses

    def missing(self, wanted: Iterable[tuple[Table, Key]]) -> dict[str, list[Key]]:
        """Of ``wanted``, the keys that have to be read, by table."""
        out: dict[str, dict[Key, None]] = {}
        for table, key in wanted:
            if key not in self._tables[table.name].rows:
                out.setdefault(table.name, {})[key] = None
        return {name: list(keys) for name, keys in out.items()}

    def loaded(self, name: str, keys: Iterable[Key], found: Iterable[Row]) -> None:
        """Rows read from table ``name`` for ``keys``; what was not found is known to be absent."""
        rows = self._tables[name]
        for key in keys:
            rows.rows.setdefault(key, None)
        for row in found:
            for column, convert in rows.convert:
                if row[column] is not None:
                    row[column] = convert(row[column])
            key = row[rows.key[0]] if len(rows.key) == 1 else tuple(row[k] for k in rows.key)
            rows.rows[key] = row

    def take(self) -> Change:
        """Everything that was changed since the last call, formatted; later changes do not touch it."""
        change = Change()
        for rows in self._tables.values():
            rows.flying = {**rows.added, **rows.changed}
            if not (rows.flying or rows.appended):
                continue
            new = [*map(rows.values, rows.added.values()), *rows.appended]
            old = list(map(rows.values, rows.changed.values()))
            encode = rows.format.encode
            change.tables.append(TableChange(rows.table, encode(new), len(new), encode(old), len(old)))
            rows.added, rows.changed, rows.appended = {}, {}, []
        return change

    def settle(self) -> None:
        """Forget rows of tables that have grown too long, but none of the last :meth:`take`.

        Call it when everything before the last ``take`` is committed: what is forgotten is then read again.
        """
        for rows in self._tables.values():
            if len(rows.rows) > rows.table.info.get("keep", 0):
                rows.rows = dict(rows.flying)

    def format(self, name: str) -> RowFormat:
        """How rows of a table are written."""
        return self._tables[name].format
