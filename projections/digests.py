"""Whether two versions of a view say the same: digests that do not depend on order, then rows that differ."""

# ruff: noqa: S608 - names of tables and columns are declared in this package, never input
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import from_json
from sqlalchemy import Table

from projections import ddl
from projections.marks import Connection
from projections.view import View

#: Rows that a report names for each table; it counts all of them.
MAX_NAMED: Final = 100
_MASK: Final = 2**64 - 1


@dataclass(frozen=True)
class TableDigest:
    """Of one table: number of rows and the sum of their hashes modulo 2**64."""

    rows: int
    sum: int


@dataclass(frozen=True)
class RowDifference:
    """A row that two versions hold differently. ``columns`` has (first, second) of each column that differs."""

    table: str
    key: dict[str, Any]
    kind: str  # "differs", "missing" (not in the second version) or "extra" (not in the first)
    columns: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def __str__(self) -> str:
        key = ", ".join(f"{k}={v}" for k, v in self.key.items())
        columns = "; ".join(f"{c}: {a!r} != {b!r}" for c, (a, b) in self.columns.items())
        return f"{self.table} ({key}) {self.kind}" + (f": {columns}" if columns else "")


@dataclass
class Comparison:
    """What comparing two versions came to. ``counts`` has the number of differing rows of each table."""

    rows: int = 0
    digest: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    differences: list[RowDifference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether no row differs."""
        return not self.counts


def compared_columns(view: View, table: Table) -> list[str]:
    """Columns that the view's code fills as the code before it did."""
    return [c for c in ddl.column_names(table) if f"{table.name}.{c}" not in view.changed]


async def table_digest(
    connection: Connection, table: Table, version: int, columns: Sequence[str]
) -> TableDigest:
    """Digest of one table in the connection's snapshot."""
    row = await connection.fetchrow(
        f"SELECT count(*) AS rows, coalesce(sum(hash_record_extended(ROW({', '.join(columns)}), 0)::numeric), 0) AS sum "
        f"FROM {ddl.qualified(table, version)}"
    )
    assert row is not None
    return TableDigest(row["rows"], int(row["sum"]) & _MASK)


async def view_digest(connection: Connection, view: View, version: int) -> dict[str, TableDigest]:
    """Digests of all tables of a version."""
    return {
        t.name: await table_digest(connection, t, version, compared_columns(view, t)) for t in view.tables
    }


def text_of(digests: dict[str, TableDigest]) -> str:
    """One line for people and for comparison: tables in order, rows and sums."""
    return " ".join(f"{name}:{d.rows}:{d.sum:016x}" for name, d in sorted(digests.items()))


async def compare(
    connection: Connection, view: View, first: int, second: int, first_tables: Sequence[str]
) -> Comparison:
    """Compare two versions in the connection's snapshot, in which their marks must be equal.

    Tables that only one of them has, or that the view's code declares as changed, are left out.
    """
    result = Comparison()
    digests: dict[str, TableDigest] = {}
    for table in view.tables:
        if table.name not in first_tables or table.name in view.changed:
            continue
        columns = compared_columns(view, table)
        one = await table_digest(connection, table, first, columns)
        two = await table_digest(connection, table, second, columns)
        digests[table.name] = two
        result.rows += two.rows
        if one != two:
            count, named = await _differences(connection, table, first, second, columns)
            result.counts[table.name] = count
            result.differences += named
    result.digest = text_of(digests)
    return result


async def _differences(
    connection: Connection, table: Table, first: int, second: int, columns: Sequence[str]
) -> tuple[int, list[RowDifference]]:
    key = ddl.key_names(table)
    match = " AND ".join(f"a.{k} = b.{k}" for k in key)
    rows = await connection.fetch(
        f"""SELECT row_to_json(a)::text AS a, row_to_json(b)::text AS b, count(*) OVER () AS total
            FROM {ddl.qualified(table, first)} a FULL JOIN {ddl.qualified(table, second)} b ON {match}
            WHERE ROW({", ".join(f"a.{c}" for c in columns)})
                  IS DISTINCT FROM ROW({", ".join(f"b.{c}" for c in columns)})
            LIMIT {MAX_NAMED}"""
    )
    named = [_difference(table.name, key, columns, r["a"], r["b"]) for r in rows]
    return (rows[0]["total"] if rows else 0), named


def _difference(
    table: str, key: Sequence[str], columns: Sequence[str], first: str | None, second: str | None
) -> RowDifference:
    a: dict[str, Any] = from_json(first) if first else {}
    b: dict[str, Any] = from_json(second) if second else {}
    names = {k: (a or b)[k] for k in key}
    if not a:
        return RowDifference(table, names, "extra")
    if not b:
        return RowDifference(table, names, "missing")
    return RowDifference(table, names, "differs", {c: (a[c], b[c]) for c in columns if a[c] != b[c]})
