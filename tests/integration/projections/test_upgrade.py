"""Tables of an earlier release: brought up by a rebuild beside them, without losing a reader or asking for a reset."""

from __future__ import annotations

import asyncio

import pytest

from projections import registry
from projections.migrations import migrate
from tests.integration.projections.conftest import Make
from tests.integration.projections.test_payments import payment_story
from tests.integration.projections.test_runner import story
from tests.kit.oracle import assert_ledger_equals
from tests.kit.views import until

_LIVE = "SELECT version, code FROM views.versions WHERE view = %s AND state = 'live'"


@pytest.mark.parametrize("noted", [True, False], ids=["layout noted", "made before layouts were noted"])
async def test_older_code_is_kept_up_and_then_replaced(make_views: Make, noted: bool) -> None:
    """Code 1 made the payments; this release makes code 2 beside it, finds what both say equal, and switches."""
    newest = registry.VIEWS["payments"]
    registry.VIEWS["payments"] = newest[:1]
    views = await make_views("payments")
    history, payment = payment_story(views.service("payments"))
    await views.publish(history)
    async with views.running("payments"):
        await views.reached("payments", history)
    assert views.query(_LIVE, "payments") == [(1, 1)]
    if not noted:
        views.execute("ALTER TABLE views.versions DROP COLUMN layout, DROP CONSTRAINT versions_state_check")
        views.execute(
            "ALTER TABLE views.versions ADD CONSTRAINT versions_state_check"
            " CHECK (state IN ('building', 'live', 'kept', 'scratch'))"
        )
    codes = registry.VIEWS["payments"][:1]
    registry.VIEWS["payments"] = (*codes, newest[1])
    registry.VIEWS["payments"] = tuple(views.renamed(v) for v in registry.VIEWS["payments"])
    await asyncio.to_thread(migrate, views.settings)
    async with views.running("payments"):
        await until(lambda: views.query(_LIVE, "payments") == [(2, 2)])
        await views.reached("payments", history)
        await until(lambda: views.health.ready)
    assert views.query("SELECT count(*) FROM views.payment_events") == [(history.position,)]
    assert views.query("SELECT count(*) FROM analytics.refunds WHERE payment_id = %s", payment) == [(1,)]
    assert views.query("SELECT state FROM views.versions WHERE view = 'payments' AND version = 1") == [
        ("kept",)
    ]


async def test_tables_that_no_code_can_write_are_replaced(make_views: Make) -> None:
    """A layout that this release does not know: readers keep the old rows until the new ones are there."""
    views = await make_views()
    history = story(views.service("ledger"), 0, transfers=60)
    await views.publish(history)
    async with views.running("ledger"):
        await views.reached("ledger", history)
    views.execute("UPDATE views.versions SET layout = 'of another release'")
    views.execute("ALTER TABLE views.accounts_v1 RENAME COLUMN posted_debit TO debits")
    assert views.query("SELECT count(*) FROM views.accounts") == [(12,)]
    async with views.running("ledger"):
        await until(lambda: views.query(_LIVE, "ledger") == [(2, 1)])
        await views.reached("ledger", history)
        await until(lambda: views.health.ready)
    assert_ledger_equals(views, [history])
