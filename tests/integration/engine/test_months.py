"""Results have a place for this month and the next, also in a role that has run for longer than that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from events.migrations import migrate, prepare_months
from nexafi.settings import Settings


def test_a_month_that_is_missing_is_made(stack: Settings, database_url: str) -> None:
    """Given a store whose partition of next month is gone; when months are prepared, twice; then it is there."""
    import psycopg

    settings = stack.model_copy(update={"database_url": database_url, "shards": {"months": 1}})
    migrate(settings, ("months",))
    coming = datetime.now(UTC).date().replace(day=1) + timedelta(days=32)
    name = f"command_results_{coming:%Y_%m}"
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"DROP TABLE months.{name}")
        prepare_months(settings, "months")
        prepare_months(settings, "months")
        assert conn.execute(f"SELECT count(*) FROM months.{name}").fetchone() == (0,)
