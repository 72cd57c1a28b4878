"""The mark of a restore that has begun and not ended. While it is there, no role becomes ready.

A restore replaces all stores in one transaction, which also sets the mark; it is taken away in the transaction that
ends the restore, after everything was verified. A restore that is killed leaves the old state or a marked one.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

_CREATE: Final = (
    "CREATE SCHEMA IF NOT EXISTS nexafi",
    """CREATE TABLE IF NOT EXISTS nexafi.restore (
        singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
        backup text NOT NULL,
        begun_at timestamptz NOT NULL DEFAULT now()
    )""",
)


class RestoreUnfinishedError(RuntimeError):
    """The database holds a restore that has not ended."""


def unfinished(conn: Connection) -> str | None:
    """Id of the backup whose restore has not ended, or ``None``."""
    row = conn.execute("SELECT to_regclass('nexafi.restore')").fetchone()
    if row is None or row[0] is None:
        return None
    found = conn.execute("SELECT backup FROM nexafi.restore").fetchone()
    return None if found is None else str(found[0])


def refuse_unfinished(conn: Connection) -> None:
    """Raise :class:`RestoreUnfinishedError` while a restore has not ended."""
    backup = unfinished(conn)
    if backup is not None:
        raise RestoreUnfinishedError(
            f"a restore of backup {backup} has not ended: run `nexafi restore` again; nothing starts before that"
        )


def refuse(database: str) -> None:
    """The same, on a connection of its own (libpq URL)."""
    with psycopg.connect(database, application_name="nexafi-restore-check", connect_timeout=5) as conn:
        refuse_unfinished(conn)


def begin(conn: Connection, backup: str) -> None:
    """Set the mark, in the caller's transaction."""
    for statement in _CREATE:
        conn.execute(statement)
    conn.execute("DELETE FROM nexafi.restore")
    conn.execute("INSERT INTO nexafi.restore (backup) VALUES (%s)", (backup,))


def end(conn: Connection) -> None:
    """Take the mark away, in the caller's transaction."""
    conn.execute("DELETE FROM nexafi.restore")
