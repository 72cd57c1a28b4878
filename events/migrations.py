"""Create and upgrade the stores of all services. Idempotent; safe to run from several processes at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg

from events.backup.marker import refuse_unfinished
from events.chain import GENESIS
from events.errors import ShardCountError
from events.store.tables import LAYOUT_VERSION, create_statements, month_partition, schema_name
from nexafi.settings import Settings

#: Services that have a store and topics.
SERVICES = ("ledger", "payments", "compliance", "ai", "auth", "payment-saga")
_LOCK = 0x4E455841  # one migration at a time per database


def migrate(settings: Settings, services: tuple[str, ...] = SERVICES) -> None:
    """Bring every store to :data:`LAYOUT_VERSION` and record its shard count."""
    with psycopg.connect(settings.database, autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        try:
            for service in services:
                with conn.transaction():
                    _migrate_store(conn, service, settings.shard_count(service))
        finally:
            conn.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def _migrate_store(conn: psycopg.Connection[tuple[object, ...]], service: str, shards: int) -> None:
    s = schema_name(service)
    for statement in create_statements(service):
        conn.execute(statement)
    _months(conn, service)
    meta = f'INSERT INTO "{s}".meta (key, value) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING'
    conn.execute(meta, ("layout", str(LAYOUT_VERSION)))
    conn.execute(meta, ("shards", str(shards)))
    rows = conn.execute(f'SELECT key, value FROM "{s}".meta').fetchall()
    recorded = {str(k): str(v) for k, v in rows}
    if int(recorded["layout"]) > LAYOUT_VERSION:
        raise ShardCountError(
            f"store {service} has layout {recorded['layout']}; this code knows {LAYOUT_VERSION}"
        )
    if int(recorded["shards"]) > shards:
        raise ShardCountError(
            f"store {service} has {recorded['shards']} shards, settings say {shards}: never fewer"
        )
    if int(recorded["shards"]) < shards:
        conn.execute(f"UPDATE \"{s}\".meta SET value = %s WHERE key = 'shards'", (str(shards),))
    history = uuid4()  # one history for all shards of a store, until a restore changes it
    known = conn.execute(f'SELECT history FROM "{s}".shard_head LIMIT 1').fetchone()
    if known is not None:
        history = known[0]  # type: ignore[assignment]
    for shard in range(shards):
        conn.execute(
            f'INSERT INTO "{s}".shard_head (shard, history, chain_hash) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING',
            (shard, history, GENESIS),
        )
        conn.execute(f'INSERT INTO "{s}".relay_marks (shard) VALUES (%s) ON CONFLICT DO NOTHING', (shard,))


def prepare_months(settings: Settings, service: str) -> None:
    """Make the partitions of this month and the next where they are not there yet: a role may run for months."""
    with psycopg.connect(settings.database, autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        _months(conn, service)


def _months(conn: psycopg.Connection[tuple[object, ...]], service: str) -> None:
    today = datetime.now(UTC).date()
    for day in (today, today.replace(day=1) + timedelta(days=32)):
        for statement in month_partition(service, day):
            conn.execute(statement)


def recorded_shards(settings: Settings, service: str) -> int:
    """The number of shards that the store was made with. Refused while a restore has not ended."""
    with psycopg.connect(settings.database) as conn:
        refuse_unfinished(conn)
        row = conn.execute(
            f"SELECT value FROM \"{schema_name(service)}\".meta WHERE key = 'shards'"
        ).fetchone()
    if row is None:
        raise ShardCountError(f"store {service} is not migrated")
    return int(row[0])
