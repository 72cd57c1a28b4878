"""Results of commands that were never sent: what a ledger's store holds after months of work.

The writer looks up every command among the results of all months, and inserts random ids into the index of the
present one. Both cost more the more there are, so a rate without them says little.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

import psycopg

from cli.stack.paths import Layout
from cli.stack.servers.postgres import Postgres
from events.store.tables import month_partition, schema_name
from nexafi.settings import Settings

MONTHS: Final = 12
#: The size of a transfer's result: its JSON has one id.
_RESULT: Final = "convert_to('{\"transaction_id\":\"' || gen_random_uuid()::text || '\"}', 'UTF8')"


def months(today: date, count: int = MONTHS) -> list[date]:
    """The first days of ``count`` months, the present one last."""
    found = []
    year, month = today.year, today.month
    for _ in range(count):
        found.append(date(year, month, 1))
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    return found[::-1]


def fill_results(settings: Settings, count: int, service: str = "ledger") -> None:
    """``count`` results of accepted commands with random ids, spread over :data:`MONTHS` months.

    They point at position 0, before the first event: a position above the history would be found by a verification.
    Each partition's unique index is dropped, built again afterwards and so is packed as PostgreSQL packs a new one.
    """
    today = datetime.now(UTC).date()
    schema = schema_name(service)
    parts = months(today)
    with psycopg.connect(settings.database, autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem = '256MB'")
        connection.execute("SET synchronous_commit = off")
        for number, first in enumerate(parts):
            share = count // len(parts) + (number < count % len(parts))
            statements = month_partition(service, first)
            name = f"command_results_{first:%Y_%m}"
            connection.execute(statements[0])
            connection.execute(f'DROP INDEX IF EXISTS "{schema}".{name}_id')
            connection.execute(
                f'INSERT INTO "{schema}".{name} (command_id, request_hash, shard, position, outcome, result, recorded_at) '
                f"SELECT gen_random_uuid(), sha256(n::text::bytea), (n %% 8)::smallint, 0, 0, {_RESULT}, "
                "%s::timestamptz + n * interval '1 microsecond' FROM generate_series(1, %s::bigint) n",
                (datetime(first.year, first.month, 1, tzinfo=UTC), share),
            )
            for statement in statements[1:]:
                connection.execute(statement)
        connection.execute(f'ANALYZE "{schema}".command_results')
        row = connection.execute(f'SELECT count(*) FROM "{schema}".command_results').fetchone()
    assert row is not None
    assert row[0] >= count, row
    settle(settings)


def settle(settings: Settings) -> None:
    """Let PostgreSQL write out what was prepared, so that the measurement does not pay for it."""
    superuser = Postgres(Layout.here(settings.data_dir), None, settings).admin_url
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
