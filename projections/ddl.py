"""DDL of a view's versions: tables ``accounts_v3``, and the stable SQL view ``accounts`` over the live ones."""

# ruff: noqa: S608 - names of tables and columns are declared in this package, never input
from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from sqlalchemy import MetaData, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from projections.view import SCHEMA, View

_DIALECT: Any = postgresql.dialect()  # type: ignore[no-untyped-call]


def table_name(table: Table, version: int) -> str:
    """Name of a version's table, without its schema."""
    return f"{table.name}_v{version}"


def qualified(table: Table, version: int) -> str:
    """``views.accounts_v3``."""
    return f"{SCHEMA}.{table_name(table, version)}"


def column_names(table: Table) -> list[str]:
    """Column names in order."""
    return [c.name for c in table.columns]


def key_names(table: Table) -> list[str]:
    """Names of the primary key's columns in order."""
    return [c.name for c in table.primary_key.columns]


def column_type(table: Table, column: str) -> str:
    """PostgreSQL's name of a column's type."""
    return table.c[column].type.compile(dialect=_DIALECT)


def create_version(view: View, version: int) -> list[str]:
    """Statements that make the tables and indexes of ``version``. They fail when the tables exist."""
    out: list[str] = []
    for table in view.tables:
        copy: Any = table.to_metadata(MetaData(), name=table_name(table, version))
        indexes = sorted(copy.indexes, key=lambda i: str(i.name))
        out.append(str(CreateTable(copy).compile(dialect=_DIALECT)).strip())
        storage = ", ".join(f"{k} = {v}" for k, v in table.info.get("storage", {}).items())
        if storage:
            out.append(f"ALTER TABLE {qualified(table, version)} SET ({storage})")
        for index in indexes:
            index.name = f"{copy.name}_{index.name}"
            out.append(str(CreateIndex(index).compile(dialect=_DIALECT)).strip())
    return out


def layout(view: View) -> str:
    """Fingerprint of a view's tables and indexes. Tables of another layout can not be written by this code."""
    return sha256("\n".join(create_version(view, 0)).encode()).hexdigest()[:16]


def drop_version(tables: Iterable[str], version: int) -> list[str]:
    """Statements that drop the tables of ``version``; ``tables`` are stable names."""
    return [f"DROP TABLE IF EXISTS {SCHEMA}.{name}_v{version}" for name in tables]


def expose(view: View, version: int) -> list[str]:
    """Statements that let the stable SQL views show ``version``."""
    out = []
    for table in view.tables:
        names = ", ".join(column_names(table))
        out.append(
            f"CREATE OR REPLACE VIEW {SCHEMA}.{table.name} AS SELECT {names} FROM {qualified(table, version)}"
        )
    return out


def stage(table: Table, version: int) -> list[str]:
    """Statements that make the session's staging table for updates of ``table``."""
    name = f"stage_{table_name(table, version)}"
    return [
        f"CREATE TEMP TABLE IF NOT EXISTS {name} (LIKE {qualified(table, version)}) ON COMMIT DELETE ROWS",
    ]


def update_from_stage(table: Table, version: int) -> str:
    """The statement that writes staged rows over those with the same key."""
    key = key_names(table)
    sets = ", ".join(f"{c} = s.{c}" for c in column_names(table) if c not in key)
    match = " AND ".join(f"t.{c} = s.{c}" for c in key)
    return f"UPDATE {qualified(table, version)} t SET {sets} FROM stage_{table_name(table, version)} s WHERE {match}"


def select_by_keys(table: Table, version: int) -> str:
    """The statement that reads rows by keys: one array parameter for each column of the key."""
    key = key_names(table)
    names = ", ".join(column_names(table))
    if len(key) == 1:
        kind = column_type(table, key[0])
        return f"SELECT {names} FROM {qualified(table, version)} WHERE {key[0]} = ANY($1::{kind}[])"
    arrays = ", ".join(f"${n}::{column_type(table, c)}[]" for n, c in enumerate(key, 1))
    return (
        f"SELECT {names} FROM {qualified(table, version)} "
        f"WHERE ({', '.join(key)}) IN (SELECT * FROM unnest({arrays}))"
    )
