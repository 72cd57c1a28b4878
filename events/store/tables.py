"""Tables of one service's store. Everything lives in a PostgreSQL schema named after the service.

A service's store is private: other services see its events on Kafka, never its tables.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

#: Version of the table layout; recorded in ``meta`` and checked at start.
LAYOUT_VERSION: Final = 1


def schema_name(service: str) -> str:
    """PostgreSQL schema of a service's store: ``payment-saga`` -> ``payment_saga``."""
    name = service.replace("-", "_")
    if not name.isidentifier() or len(name) > 48:
        raise ValueError(f"not a service name: {service!r}")
    return name


def create_statements(service: str) -> list[str]:
    """DDL of a store. Idempotent; ``command_results`` partitions are made by :func:`month_partition`."""
    s = schema_name(service)
    return [
        f'CREATE SCHEMA IF NOT EXISTS "{s}"',
        f'CREATE TABLE IF NOT EXISTS "{s}".meta (key text PRIMARY KEY, value text NOT NULL)',
        # The row that decides everything. A low fillfactor keeps its updates on one page (HOT).
        f"""CREATE TABLE IF NOT EXISTS "{s}".shard_head (
            shard smallint PRIMARY KEY,
            epoch bigint NOT NULL DEFAULT 0,
            owner text NOT NULL DEFAULT '',
            history uuid NOT NULL,
            next_position bigint NOT NULL DEFAULT 1,
            next_offset bigint NOT NULL DEFAULT 0,
            last_time_us bigint NOT NULL DEFAULT 0,
            chain_hash bytea NOT NULL
        ) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)""",
        f"""CREATE TABLE IF NOT EXISTS "{s}".events (
            shard smallint NOT NULL,
            position bigint NOT NULL,
            originator_id uuid NOT NULL,
            originator_version bigint NOT NULL,
            topic text NOT NULL,
            metadata bytea NOT NULL,
            state bytea NOT NULL,
            PRIMARY KEY (shard, position)
        ) WITH (autovacuum_vacuum_threshold = 100000000, autovacuum_vacuum_scale_factor = 0.5)""",
        f"""CREATE UNIQUE INDEX IF NOT EXISTS events_originator_idx
            ON "{s}".events (originator_id, originator_version)""",
        f"""CREATE TABLE IF NOT EXISTS "{s}".batches (
            shard smallint NOT NULL,
            first_position bigint NOT NULL,
            last_position bigint NOT NULL,
            time_us bigint NOT NULL,
            epoch bigint NOT NULL,
            next_offset bigint NOT NULL,
            merkle_root bytea NOT NULL,
            chain_hash bytea NOT NULL,
            PRIMARY KEY (shard, first_position)
        )""",
        # No primary key here: a unique index on a partitioned table would have to contain recorded_at.
        # Each partition has its own unique index on command_id (month_partition), and the one writer of a
        # shard looks in all of them before it decides.
        f"""CREATE TABLE IF NOT EXISTS "{s}".command_results (
            command_id uuid NOT NULL,
            request_hash bytea NOT NULL,
            shard smallint NOT NULL,
            position bigint NOT NULL,
            outcome smallint NOT NULL,
            result bytea NOT NULL,
            recorded_at timestamptz NOT NULL
        ) PARTITION BY RANGE (recorded_at)""",
        f"""CREATE TABLE IF NOT EXISTS "{s}".claims (
            scope text NOT NULL,
            value_hmac bytea NOT NULL,
            owner uuid NOT NULL,
            PRIMARY KEY (scope, value_hmac)
        )""",
        f"""CREATE TABLE IF NOT EXISTS "{s}".dead_letters (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            topic text NOT NULL,
            partition integer NOT NULL,
            record_offset bigint NOT NULL,
            item integer NOT NULL DEFAULT 0,
            command_id uuid,
            headers bytea NOT NULL,
            key bytea,
            value bytea,
            error text NOT NULL,
            cause text NOT NULL,
            recorded_at timestamptz NOT NULL DEFAULT now(),
            retried_at timestamptz,
            UNIQUE (topic, partition, record_offset, item)
        )""",
        # Since 0.1: a letter that is not to be sent again says so.
        f"""ALTER TABLE "{s}".dead_letters ADD COLUMN IF NOT EXISTS discarded_at timestamptz,
            ADD COLUMN IF NOT EXISTS discarded_why text""",
        f'CREATE INDEX IF NOT EXISTS dead_letters_command_idx ON "{s}".dead_letters (command_id)',
        f"""CREATE TABLE IF NOT EXISTS "{s}".snapshots (
            shard smallint NOT NULL,
            position bigint NOT NULL,
            state_version integer NOT NULL,
            digest bytea NOT NULL,
            chain_hash bytea NOT NULL,
            state bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (shard, position)
        )""",
        f"""CREATE TABLE IF NOT EXISTS "{s}".relay_marks (
            shard smallint PRIMARY KEY,
            position bigint NOT NULL DEFAULT 0
        ) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)""",
    ]


def month_partition(service: str, day: date) -> list[str]:
    """DDL of the month's partition of ``command_results`` that contains ``day``."""
    s = schema_name(service)
    first = day.replace(day=1)
    following = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    name = f"command_results_{first:%Y_%m}"
    bounds = f"FROM ('{_utc(first)}') TO ('{_utc(following)}')"
    return [
        f'CREATE TABLE IF NOT EXISTS "{s}".{name} PARTITION OF "{s}".command_results FOR VALUES {bounds}',
        f'CREATE UNIQUE INDEX IF NOT EXISTS {name}_id ON "{s}".{name} (command_id)',
    ]


def _utc(day: date) -> str:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).isoformat()
