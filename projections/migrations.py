"""Create and upgrade the views' schemas. Idempotent; safe to run from several processes at once."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from nexafi.settings import Settings
from projections import analytics, ddl, marks
from projections.registry import VIEWS, newest
from projections.view import View

_LOCK: Final = 0x4E455856

Connection = psycopg.Connection[tuple[Any, ...]]


def migrate(settings: Settings) -> None:
    """Make schemas ``views`` and ``analytics``, a first version of every view that has none, and the analysts' role."""
    with psycopg.connect(settings.database, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        try:
            with connection.transaction():
                for statement in marks.DDL:
                    connection.execute(statement)
                for name in VIEWS:
                    _first_version(connection, newest(name))
                for statement in analytics.statements(settings):
                    connection.execute(statement)
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


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
        "INSERT INTO views.versions (view, version, code, state, tables, switched_at) VALUES (%s, %s, %s, 'live', %s, now())",
        (view.name, version, view.code, [t.name for t in view.tables]),
    )


def _next_version(connection: Connection, view: str) -> int:
    row = connection.execute(
        "SELECT coalesce(max(version), 0) + 1 FROM views.versions WHERE view = %s", (view,)
    ).fetchone()
    assert row is not None
    return int(row[0])
