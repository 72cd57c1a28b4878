"""Putting a backup's tables back: all stores in one transaction, which also marks the restore as unfinished.

Views (schemas ``views`` and ``analytics``) are dropped with the old stores: they hold what may never have happened,
and are made anew from the events.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
import zstandard

from events.backup import marker
from events.backup.manifest import BackupError, Manifest, StoreEntry, TableFile
from events.store.tables import LAYOUT_VERSION, create_statements, month_partition, schema_name
from nexafi.settings import Settings

Connection = psycopg.Connection[tuple[Any, ...]]
#: A restored shard's epoch is this much above every epoch that was known: no writer from before can have it.
EPOCH_STEP: Final = 1 << 20
_BLOCK: Final = 1 << 18
#: ``events_originator_idx`` and the indexes of results are made after the rows are in: twice as fast.
_LATER: Final = ("CREATE UNIQUE INDEX", "CREATE INDEX")


def stored_events(conn: Connection, manifest: Manifest) -> int:
    """Events in the stores that a restore would replace; 0 for stores that are empty or absent."""
    total = 0
    for store in manifest.stores:
        table = f'"{schema_name(store.service)}".events'
        if conn.execute("SELECT to_regclass(%s)", (table,)).fetchone() != (None,):
            row = conn.execute(f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT 1) one").fetchone()
            total += int(row[0]) if row is not None else 0
    return total


def others(conn: Connection) -> list[tuple[int, str]]:
    """Backends of other programs on this database: process id and what each calls itself."""
    rows = conn.execute(
        "SELECT pid, coalesce(nullif(application_name, ''), usename, backend_type) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    ).fetchall()
    return [(int(pid), str(name)) for pid, name in rows]


def end_others(conn: Connection) -> int:
    """End the other programs' backends; how many. A writer among them is fenced by the epoch in any case."""
    return len(
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", ([p for p, _ in others(conn)],)
        ).fetchall()
    )


def load_stores(
    settings: Settings, folder: Path, manifest: Manifest, progress: Callable[[str], None] = lambda _text: None
) -> None:
    """Replace the stores by those of the backup, atomically, and set the mark of an unfinished restore."""
    for store in manifest.stores:
        if store.layout > LAYOUT_VERSION:
            raise BackupError(
                f"the backup's store {store.service} has layout {store.layout}; this release knows {LAYOUT_VERSION}"
            )
        if len(store.heads) > settings.shard_count(store.service):
            raise BackupError(
                f"the backup's store {store.service} has {len(store.heads)} shards, "
                f"settings say {settings.shard_count(store.service)}: never fewer"
            )
    with psycopg.connect(settings.database, application_name="nexafi-restore") as conn:
        epochs = {s.service: _highest_epoch(conn, s) for s in manifest.stores}
        marker.begin(conn, manifest.id)
        conn.execute("DROP SCHEMA IF EXISTS analytics CASCADE")
        conn.execute("DROP SCHEMA IF EXISTS views CASCADE")
        for store in manifest.stores:
            _load_store(conn, folder, store, progress)
            s = schema_name(store.service)
            conn.execute(
                f"UPDATE \"{s}\".shard_head SET owner = 'restore', epoch = %s",
                (epochs[store.service] + EPOCH_STEP,),
            )


def _highest_epoch(conn: Connection, store: StoreEntry) -> int:
    """The highest epoch that the backup or what is left of the store knows."""
    known = [h.epoch for h in store.heads]
    table = f'"{schema_name(store.service)}".shard_head'
    if conn.execute("SELECT to_regclass(%s)", (table,)).fetchone() != (None,):
        known += [e for (e,) in conn.execute(f"SELECT epoch FROM {table}").fetchall()]
    return max(known, default=0)


def _load_store(conn: Connection, folder: Path, store: StoreEntry, progress: Callable[[str], None]) -> None:
    s = schema_name(store.service)
    conn.execute(f'DROP SCHEMA IF EXISTS "{s}" CASCADE')
    statements = create_statements(store.service)
    for day in _months(store):
        statements += month_partition(store.service, day)
    later = [x for x in statements if x.lstrip().startswith(_LATER)]
    for statement in statements:
        if statement not in later:
            conn.execute(statement)
    for file in store.tables:
        _load_table(conn, folder / file.path, s, file)
        if file.rows and file.table in {"events", "command_results"}:
            progress(f"{store.service}/{file.table}: {file.rows:,} rows")
    for statement in later:
        conn.execute(statement)
    # Ids of dead letters go on above the restored ones.
    conn.execute(
        f"SELECT setval(pg_get_serial_sequence('\"{s}\".dead_letters', 'id'), "
        f'greatest(1, coalesce(max(id), 0)), max(id) IS NOT NULL) FROM "{s}".dead_letters'
    )


def _months(store: StoreEntry) -> list[date]:
    today = datetime.now(UTC).date()
    days = {date.fromisoformat(m) for m in store.months}
    return sorted(days | {today.replace(day=1), (today.replace(day=1) + timedelta(days=32)).replace(day=1)})


def _load_table(conn: Connection, path: Path, schema: str, file: TableFile) -> None:
    columns = ", ".join(f'"{c}"' for c in file.columns)
    statement = f'COPY "{schema}".{file.table} ({columns}) FROM STDIN (FORMAT BINARY)'
    with conn.cursor() as cursor:
        with (
            path.open("rb") as raw,
            zstandard.ZstdDecompressor().stream_reader(raw) as reader,
            cursor.copy(statement) as copy,
        ):
            while block := reader.read(_BLOCK):
                copy.write(block)
        if cursor.rowcount != file.rows:
            raise BackupError(f"{file.path} holds {cursor.rowcount} rows, its manifest says {file.rows}")
