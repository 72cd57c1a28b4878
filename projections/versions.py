"""Making, comparing, switching and dropping versions of a view in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from events.subscription import Source
from projections import analytics, ddl
from projections.marks import Connection, State, Version, live_version, lock_key
from projections.view import SCHEMA, View

#: Readers queue behind a switch for at most so long.
_SWITCH_LOCK_MS: Final = 300


class RebuildRunningError(RuntimeError):
    """Another process rebuilds or verifies this view now."""


@asynccontextmanager
async def alone(connection: Connection, view: str) -> AsyncIterator[None]:
    """Only one rebuild or verification of a view at a time, in whatever process."""
    key = f"nexafi.views/{view}/rebuild"
    if not await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", key):
        raise RebuildRunningError(f"view {view} is being rebuilt or verified by another process")
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", key)


@asynccontextmanager
async def frozen(connection: Connection, view: str, version: int) -> AsyncIterator[None]:
    """The version's runner stands still inside; keep it short, readers of fresh data wait."""
    key = lock_key(view, version)
    await connection.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", key)
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", key)


async def create(connection: Connection, view: View, state: State) -> Version:
    """Empty tables of a new version."""
    async with connection.transaction():
        number = await connection.fetchval(
            "SELECT coalesce(max(version), 0) + 1 FROM views.versions WHERE view = $1", view.name
        )
        tables = tuple(t.name for t in view.tables)
        await connection.execute(
            "INSERT INTO views.versions (view, version, code, state, tables, layout) VALUES ($1, $2, $3, $4, $5, $6)",
            view.name,
            number,
            view.code,
            state,
            list(tables),
            ddl.layout(view),
        )
        for statement in ddl.create_version(view, number):
            await connection.execute(statement)
    return Version(view.name, number, view.code, state, tables, ddl.layout(view))


async def drop(connection: Connection, version: Version) -> None:
    """Remove a version that nobody reads, with its tables and marks."""
    assert version.state != "live", "the live version is never dropped"
    async with connection.transaction():
        for statement in ddl.drop_version(version.tables, version.version):
            await connection.execute(statement)
        await connection.execute(
            "DELETE FROM views.marks WHERE view = $1 AND version = $2", version.view, version.version
        )
        await connection.execute(
            "UPDATE views.versions SET state = 'dropped' WHERE view = $1 AND version = $2",
            version.view,
            version.version,
        )


async def positions(connection: Connection, version: Version) -> dict[Source, int]:
    """How far a version has come in each shard."""
    rows = await connection.fetch(
        "SELECT service, shard, position FROM views.marks WHERE view = $1 AND version = $2",
        version.view,
        version.version,
    )
    return {(r["service"], r["shard"]): r["position"] for r in rows}


async def switch(connection: Connection, view: View, to: Version, *, old_tables: Iterable[str]) -> None:
    """Let readers see ``to``, in one transaction; what was live is kept and its runner stops.

    Readers wait for the moment of the switch and never see a gap. When one of them holds the view for longer than
    300 ms, asyncpg's ``LockNotAvailableError`` is raised and nothing has changed: others shall not queue behind it.
    """
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_SWITCH_LOCK_MS}ms'")
        await _switch(connection, view, to, set(old_tables))


async def _switch(connection: Connection, view: View, to: Version, old_tables: set[str]) -> None:
    before = await live_version(connection, view.name)
    if old_tables <= {t.name for t in view.tables} and await _replaceable(connection, view):
        for statement in ddl.expose(view, to.version):
            await connection.execute(statement)
    else:
        for name in sorted(old_tables):
            await connection.execute(f"DROP VIEW IF EXISTS {SCHEMA}.{name} CASCADE")
        for statement in ddl.expose(view, to.version):
            await connection.execute(statement)
        for statement in analytics.view_statements():
            await connection.execute(statement)
    states = (("kept", before.version), ("live", to.version))
    for state, version in states:
        await connection.execute(
            "UPDATE views.versions SET state = $3, switched_at = now() WHERE view = $1 AND version = $2",
            view.name,
            version,
            state,
        )
        await connection.execute(
            "UPDATE views.marks SET retired = $3 WHERE view = $1 AND version = $2",
            view.name,
            version,
            state == "kept",
        )


async def _replaceable(connection: Connection, view: View) -> bool:
    """Whether the stable SQL views can be replaced in place, without dropping what depends on them."""
    for table in view.tables:
        rows = await connection.fetch(
            """SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
               WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum""",
            f"{SCHEMA}.{table.name}",
        )
        have = [(r["attname"], r["type"]) for r in rows]
        want = [(c, ddl.column_type(table, c).lower()) for c in ddl.column_names(table)]
        if have != want[: len(have)]:
            return False
    return True
