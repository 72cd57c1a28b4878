"""The analysts' role: it reads the documented views and can neither write nor look anywhere else."""

from __future__ import annotations

import secrets

import psycopg
import pytest

from events.migrations import migrate as migrate_stores
from projections import analytics
from tests.integration.projections.conftest import Make
from tests.integration.projections.test_payments import payment_story
from tests.integration.projections.test_runner import story
from tests.kit.views import Views


def as_analyst(views: Views) -> psycopg.Connection[tuple[object, ...]]:
    """A session of the role itself, as an analyst's tool opens it; its password is the operator's to set."""
    password = secrets.token_hex(16)
    with psycopg.connect(views.settings.database, autocommit=True) as owner:
        owner.execute(f"ALTER ROLE {analytics.ROLE} PASSWORD '{password}'")
    head, _, rest = views.settings.database.partition("://")
    return psycopg.connect(f"{head}://{analytics.ROLE}:{password}@{rest.rpartition('@')[2]}", autocommit=True)


async def test_analyst_reads_the_documented_views_only(make_views: Make) -> None:
    """Every view with every column, by its name alone; no write, no other schema, no setting that undoes that."""
    views = await make_views("ledger", "payments", "compliance", "ai")
    history = story(views.service("ledger"), 0, transfers=40)
    payments, payment = payment_story(views.service("payments"))
    await views.publish(history, payments)
    migrate_stores(views.settings, ("ledger", "payments"))
    async with views.running("ledger", "payments", "compliance", "risk"):
        await views.reached("ledger", history)
        await views.reached("payments", payments)
    with as_analyst(views) as session:
        for view in analytics.VIEWS:
            cursor = session.execute(f"SELECT * FROM {view.name} LIMIT 5")
            assert [c.name for c in cursor.description or ()] == list(view.columns)
            comments = session.execute(
                "SELECT obj_description(%s::regclass), count(col_description(%s::regclass, n)) FROM generate_series(1, %s) n",
                (f"analytics.{view.name}", f"analytics.{view.name}", len(view.columns)),
            ).fetchone()
            assert comments == (view.comment, len(view.columns))
        sums = session.execute(
            "SELECT sum(amount) FILTER (WHERE side = 'debit') - sum(amount) FILTER (WHERE side = 'credit') FROM entries"
        )
        assert sums.fetchone() == (0,)
        row = session.execute(
            "SELECT status, refunded FROM payments WHERE payment_id = %s", (payment,)
        ).fetchone()
        assert row == ("settled", 400)
        refused = [
            "SELECT * FROM views.payments",
            "SELECT * FROM views.accounts_v1",
            "SELECT * FROM views.marks",
            "SELECT * FROM ledger.events",
            "SELECT * FROM payments.command_results",
            "UPDATE analytics.ledgers SET name = 'mine'",
            "DELETE FROM analytics.payments",
            "INSERT INTO views.ledgers_v1 (ledger_id) VALUES (gen_random_uuid())",
            "CREATE TABLE analytics.mine (a int)",
            "CREATE TABLE public.mine (a int)",
            "CREATE SCHEMA mine",
            "SET ROLE nexafi",
        ]
        session.execute("SET default_transaction_read_only = off")  # a role may; privileges are what holds
        for statement in refused:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)
    with as_analyst(views) as session, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        session.execute("CREATE TEMP TABLE t AS SELECT 1")


def test_no_personal_data_for_analysts() -> None:
    """Names of people stay out: no column shows a party as it was given."""
    shown = {expression for view in analytics.VIEWS for expression, _ in view.columns.values()}
    assert not {"payer", "payee", "description", "note", "actor", "matched_name"} & (
        shown - {v.columns["description"][0] for v in analytics.VIEWS if v.name == "transactions"}
    )
