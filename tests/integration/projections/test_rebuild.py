"""Making a view anew while it is read and written; finding what was corrupted; refusing what is wrong."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

import cli.projections
from projections import registry
from projections.ledger.v1 import VIEW
from projections.ledger.v1_tables import ACCOUNTS
from projections.rebuild import DifferentError, go_back, rebuild, verify
from projections.unit import Unit
from projections.view import Data, Handler, Meta, View
from schemas.ledger.events import TransactionPosted
from tests.integration.projections.conftest import Make
from tests.integration.projections.test_runner import story
from tests.kit.history import LedgerHistory
from tests.kit.oracle import assert_ledger_equals
from tests.kit.views import Views


async def write_on(views: Views, history: LedgerHistory, stop: asyncio.Event) -> None:
    """Publish transfers, a few at a time, until told to stop."""
    rng = random.Random(4)
    while not stop.is_set():
        before = history.position
        history.tick()
        history.random_transfers(40, rng)
        await views.publish(history, after=before)
        await asyncio.sleep(0.02)


def read_on(url: str, stop: asyncio.Event) -> list[tuple[float, int, int]]:
    """Read a total again and again: (seconds taken, rows, sum that must be zero)."""
    seen = []
    with psycopg.connect(url, autocommit=True) as connection:
        while not stop.is_set():
            began = time.monotonic()
            row = connection.execute(
                "SELECT (SELECT count(*) FROM views.entries), (SELECT sum(posted_debit - posted_credit) FROM views.accounts)"
            ).fetchone()
            assert row is not None
            seen.append((time.monotonic() - began, row[0], int(row[1])))
            time.sleep(0.002)
    return seen


async def test_rebuild_under_load_without_a_gap(make_views: Make) -> None:
    """Readers go on through the switch, never see fewer rows than before, and every event is there in the end."""
    views = await make_views()
    busy, quiet = (LedgerHistory.begin(views.service("ledger"), s, 20) for s in (0, 1))
    for history in (busy, quiet):
        history.random_transfers(3_000, random.Random(1))
    await views.publish(busy, quiet)
    stop = asyncio.Event()
    async with views.running("ledger"):
        await views.reached("ledger", busy, quiet)
        writer = asyncio.create_task(write_on(views, busy, stop))
        reader = asyncio.create_task(asyncio.to_thread(read_on, views.settings.database, stop))
        result = await rebuild(views.settings, "ledger", keep=True)
        await asyncio.sleep(0.5)
        stop.set()
        await writer
        seen = await reader
        await views.reached("ledger", busy, quiet)
        states = views.query(
            "SELECT version, state FROM views.versions WHERE view = 'ledger' ORDER BY version"
        )
        assert states == [(1, "kept"), (2, "live")]
        assert_ledger_equals(views, [busy, quiet])
        # The way back: version 1 catches up with what it missed, and is live again.
        back = await go_back(views.settings, "ledger")
        await views.reached("ledger", busy, quiet)
    assert back.version == 1
    assert_ledger_equals(views, [busy, quiet])
    assert result.equal
    assert result.rows > 12_000
    counts = [rows for _, rows, _ in seen]
    assert counts == sorted(counts)
    assert {total for _, _, total in seen} == {0}
    assert len(seen) > 50
    assert max(took for took, _, _ in seen) < 2.0


async def test_planted_corruption_is_found(make_views: Make) -> None:
    """Twenty rows changed, removed or invented behind the projection's back: all are named."""
    views = await make_views()
    history = LedgerHistory.begin(views.service("ledger"), 0, 40)
    history.random_transfers(5_000, random.Random(2))
    await views.publish(history)
    async with views.running("ledger"):
        await views.reached("ledger", history)
        assert (await verify(views.settings, "ledger")).equal
        changes = [
            "UPDATE views.accounts_v1 SET balance = balance + 1 WHERE account_id IN (SELECT account_id FROM views.accounts_v1 ORDER BY 1 LIMIT 6)",
            "UPDATE views.entries_v1 SET amount = amount + 1 WHERE (account_id, sequence) IN (SELECT account_id, sequence FROM views.entries_v1 ORDER BY 1, 2 LIMIT 5)",
            "DELETE FROM views.entries_v1 WHERE (account_id, sequence) IN (SELECT account_id, sequence FROM views.entries_v1 ORDER BY 1 DESC, 2 DESC LIMIT 4)",
            "UPDATE views.transactions_v1 SET description = 'x' WHERE transaction_id IN (SELECT transaction_id FROM views.transactions_v1 ORDER BY 1 LIMIT 4)",
            "INSERT INTO views.ledgers_v1 SELECT gen_random_uuid(), name, metadata, accounts, tenant, shard, position, version, created_at, updated_at FROM views.ledgers_v1 LIMIT 1",
        ]
        assert sum(views.execute(change) for change in changes) == 20
        began = time.monotonic()
        found = await verify(views.settings, "ledger")
        took = time.monotonic() - began
    print(f"\nR10: {sum(found.counts.values())} of 20 rows found in {took:.2f} s")
    assert found.counts == {"accounts": 6, "entries": 9, "transactions": 4, "ledgers": 1}
    kinds = sorted(d.kind for d in found.differences)
    assert kinds == ["differs"] * 15 + ["extra"] * 4 + ["missing"]
    assert all(
        "amount" in d.columns for d in found.differences if d.table == "entries" and d.kind == "differs"
    )
    assert took < 120
    # Scratch tables are gone, and the damage is mended by what is known to be right.
    assert views.query("SELECT count(*) FROM views.versions WHERE state = 'scratch'") == [(0,)]
    with pytest.raises(DifferentError):
        await rebuild(views.settings, "ledger")
    await rebuild(views.settings, "ledger", accept_differences=True)
    assert_ledger_equals(views, [history])


def with_bug(view: View) -> View:
    """The view with a mistake: a debit of more than 5,000 is counted twice in its account's total."""

    def fold(event: Data, meta: Meta, unit: Unit) -> None:
        right(event, meta, unit)
        for entry in event["entries"]:
            if entry["side"] == "debit" and entry["amount"] > 5_000:
                unit.row(ACCOUNTS, entry["account_id"])["posted_debit"] += entry["amount"]

    right, reads = VIEW.handlers[TransactionPosted.TYPE]
    return replace(view, code=2, handlers=view.handlers | {TransactionPosted.TYPE: Handler(fold, reads)})


async def test_planted_bug_is_refused_at_the_switch(make_views: Make) -> None:
    """New code that says something else is not switched to, and the refusal says where."""
    views = await make_views()
    history = LedgerHistory.begin(views.service("ledger"), 0, 10)
    history.random_transfers(200, random.Random(3))
    await views.publish(history)
    async with views.running("ledger"):
        await views.reached("ledger", history)
        registry.VIEWS["ledger"] = (views.view("ledger"), with_bug(views.view("ledger")))
        with pytest.raises(DifferentError) as refused:
            await rebuild(views.settings, "ledger")
        assert set(refused.value.comparison.counts) == {"accounts"}
        assert all(set(d.columns) == {"posted_debit"} for d in refused.value.comparison.differences)
        assert views.query(
            "SELECT version, code, state FROM views.versions WHERE view = 'ledger' AND state <> 'dropped'"
        ) == [(1, 1, "live")]
        # Declared as changed, it is not compared, and so it is the author's word that stands.
        meant = replace(with_bug(views.view("ledger")), changed=frozenset({"accounts.posted_debit"}))
        registry.VIEWS["ledger"] = (registry.VIEWS["ledger"][0], meant)
        assert (await rebuild(views.settings, "ledger")).equal
    assert views.query(
        "SELECT version, code, state FROM views.versions WHERE view = 'ledger' AND state <> 'dropped' ORDER BY 1"
    ) == [(1, 1, "kept"), (3, 2, "live")]


async def test_interrupted_build_leaves_nothing(make_views: Make) -> None:
    """A build that was killed is cleared away by the next one."""
    views = await make_views()
    history = story(views.service("ledger"), 0, transfers=30)
    await views.publish(history)
    async with views.running("ledger"):
        await views.reached("ledger", history)
        views.execute(
            "INSERT INTO views.versions (view, version, code, state, tables) VALUES ('ledger', 2, 1, 'building', '{accounts}')"
        )
        views.execute("CREATE TABLE views.accounts_v2 (LIKE views.accounts_v1)")
        assert (await rebuild(views.settings, "ledger", keep=False)).equal
    assert views.query(
        "SELECT version, state FROM views.versions WHERE view = 'ledger' AND state <> 'dropped'"
    ) == [(3, "live")]
    assert views.query("SELECT to_regclass('views.accounts_v1'), to_regclass('views.accounts_v2')") == [
        (None, None)
    ]


async def test_command_line(make_views: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status`, `verify`, `rebuild` and `switch --back` as people use them, with exit codes that scripts can use."""
    views = await make_views()
    history = story(views.service("ledger"), 0, transfers=30)
    await views.publish(history)
    monkeypatch.setattr(cli.projections, "get_settings", lambda: views.settings)

    def run(*args: str) -> Any:
        return CliRunner().invoke(cli.projections.app, list(args))

    async with views.running("ledger"):
        await views.reached("ledger", history)
        shown = await asyncio.to_thread(run, "status")
        assert shown.exit_code == 0, shown.output
        assert "ledger" in shown.output
        equal = await asyncio.to_thread(run, "verify", "ledger")
        assert equal.exit_code == 0, equal.output
        assert "rows are equal" in equal.output
        views.execute("UPDATE views.accounts_v1 SET balance = balance + 1 WHERE code = 'acc-3'")
        drift = await asyncio.to_thread(run, "verify", "ledger")
        assert drift.exit_code == 1
        assert "balance" in drift.output
        refused = await asyncio.to_thread(run, "rebuild", "ledger")
        assert refused.exit_code == 2
        assert "Not switched" in refused.output
        mended = await asyncio.to_thread(run, "rebuild", "ledger", "--accept-differences")
        assert mended.exit_code == 0, mended.output
        returned = await asyncio.to_thread(run, "switch", "ledger", "--back")
        assert returned.exit_code == 0, returned.output
        assert (await asyncio.to_thread(run, "verify", "nonsense")).exit_code != 0
