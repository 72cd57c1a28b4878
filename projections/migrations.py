"""Create and upgrade the views' schemas. Idempotent; safe to run from several processes at once."""

from __future__ import annotations

from typing import Any, Final

import psycopg
import structlog

from nexafi.settings import Settings
from projections import analytics, ddl, marks
from projections.registry import VIEWS, newest
from projections.view import View

log = structlog.get_logger(__name__)
_LOCK: Final = 0x4E455856
#: Codes that databases may hold from before layouts were noted, and whose tables have not changed since.
BEFORE_LAYOUTS: Final = {"ledger": (1,), "payments": (1,), "compliance": (1,)}

Connection = psycopg.Connection[tuple[Any, ...]]


def migrate(settings: Settings) -> None:
    """Make schemas ``views`` and ``analytics``, a first version of every view that has none, and the analysts' role."""
    with psycopg.connect(settings.database, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        try:
            with connection.transaction():
                for statement in marks.DDL:
                    connection.execute(statement)
                _note_layouts(connection)
                for name in VIEWS:
                    _first_version(connection, newest(name))
                connection.execute("CREATE SCHEMA IF NOT EXISTS analytics")
                _make_role(connection, settings)
                for statement in analytics.view_statements():
                    connection.execute(statement)
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def _note_layouts(connection: Connection) -> None:
    """Versions that were made before layouts were noted have the layout that their code had until then."""
    for name, codes in VIEWS.items():
        for view in codes:
            if view.code in BEFORE_LAYOUTS.get(name, ()):
                connection.execute(
                    "UPDATE views.versions SET layout = %s WHERE view = %s AND code = %s AND layout = ''",
                    (ddl.layout(view), name, view.code),
                )


def _make_role(connection: Connection, settings: Settings) -> None:
    """The analysts' role, or a sentence on who has to make it: roles belong to the server, not to a database."""
    try:
        with connection.transaction():
            connection.execute(analytics.role_statement(settings))
    except psycopg.errors.InsufficientPrivilege:
        found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (analytics.ROLE,)).fetchone()
        if found is None:
            log.warning(
                "role for analysts not made: the database user lacks CREATEROLE; let an administrator run"
                " CREATE ROLE nexafi_analyst LOGIN, then migrate again",
                role=analytics.ROLE,
            )


def _first_version(connection: Connection, view: View) -> None:
    live = connection.execute(
        "SELECT 1 FROM views.versions WHERE view = %s AND state = 'live'", (view.name,)
    ).fetchone()
    if live is not None:
        return
    version = _next_version(connection, view.name)
    for statement in [*ddl.create_version(view, version), *ddl.expose(view, version)]:
        connection.execute(statement)
    connection.execute(
        "INSERT INTO views.versions (view, version, code, state, tables, layout, switched_at) "
        "VALUES (%s, %s, %s, 'live', %s, %s, now())",
        (view.name, version, view.code, [t.name for t in view.tables], ddl.layout(view)),
    )


def _next_version(connection: Connection, view: str) -> int:
    row = connection.execute(
        "SELECT coalesce(max(version), 0) + 1 FROM views.versions WHERE view = %s", (view,)
    ).fetchone()
    assert row is not None
    return int(row[0])
