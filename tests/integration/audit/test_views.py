"""Projected balances are compared with history at the view's own position; a drifted row is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from events.checking import parts_of, stream_id
from events.decider import EventMeta
from events.loading import EventDecoder
from events.migrations import migrate
from events.store.recorder import ShardRecorder, open_datastore
from nexafi.settings import Settings
from projections.migrations import migrate as migrate_views
from services.ledger.domain import LedgerDecider
from services.ledger.state import State
from tests.integration.audit.conftest import Command
from tests.kit.recorded import RecordedLedger, recorded_ledger

VERIFY = ("audit", "verify", "--service", "ledger", "--heads", "none", "--views")


@dataclass
class Projected:
    """A ledger's store and its live view, which stands at a position inside a batch."""

    url: str
    ledger: RecordedLedger
    position: int

    def execute(self, statement: str, *params: object) -> None:
        with psycopg.connect(self.url) as conn:
            assert conn.execute(statement, params).rowcount > 0, statement


def state_at(ledger: RecordedLedger, position: int) -> State:
    """What history gives up to a position."""
    decider = LedgerDecider()
    decoder, state = EventDecoder(decider), decider.initial(0)
    for row in [row for rows in ledger.rows for row in rows][:position]:
        parts = parts_of(row)
        event = decoder.decode(parts.topic.decode(), parts.state)
        assert event is not None
        meta = EventMeta(stream_id(parts.originator), parts.version, 0, "acme", "x", position=parts.position)
        state = decider.evolve(state, event, meta)
    return state


def rows_of(state: State) -> Iterator[dict[str, Any]]:
    """Rows of the view as its projector would have written them."""
    nothing: dict[str, Any] = dict.fromkeys(
        (
            "posted_debit",
            "posted_credit",
            "pending_debit",
            "pending_credit",
            "entries",
            "open_holds",
            "position",
        ),
        0,
    ) | {
        "name": "",
        "metadata": "{}",
        "tenant": "acme",
        "shard": 0,
        "version": 1,
        "created_at": 0,
        "updated_at": 0,
    }
    for ledger in state.ledgers.values():
        for a in ledger.accounts.values():
            figures = {
                "balance": a.posted,
                "available": a.available,
                "status": "open",
                "currency": a.currency,
            }
            yield (
                nothing
                | figures
                | {"account_id": a.id, "ledger_id": ledger.id, "code": a.code, "normal_side": "debit"}
            )
        for identifier, code in ledger.closed.items():
            figures = {"balance": 0, "available": 0, "status": "closed", "currency": "EUR"}
            yield (
                nothing
                | figures
                | {"account_id": identifier, "ledger_id": ledger.id, "code": code, "normal_side": "debit"}
            )


@pytest.fixture
def projected(stack: Settings, database_url: str) -> Projected:
    settings = stack.model_copy(update={"database_url": database_url, "shards": {"ledger": 1}})
    migrate(settings, ("ledger",))
    migrate_views(settings)
    recorder = ShardRecorder(open_datastore(database_url, "ledger"), service="ledger")
    ledger = recorded_ledger()
    ledger.store(recorder)
    recorder.datastore.close()
    position = ledger.position - 1  # the last batch has three transfers
    with psycopg.connect(database_url) as conn:
        for row in rows_of(state_at(ledger, position)):
            names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
            conn.execute(f"INSERT INTO views.accounts ({names}) VALUES ({marks})", list(row.values()))
        conn.execute(
            "INSERT INTO views.marks (view, version, service, shard, position) "
            "SELECT 'ledger', version, 'ledger', 0, %s FROM views.versions WHERE view = 'ledger' AND state = 'live' "
            "ON CONFLICT (view, version, service, shard) DO UPDATE SET position = excluded.position",
            (position,),
        )
    return Projected(database_url, ledger, position)


def problem(nexafi: Command, status: int) -> str:
    (report,) = [json.loads(line) for line in nexafi(*VERIFY, "--json", status=status).stdout.splitlines()]
    assert report["views"] == (1 if status == 0 else 0)
    return str(report["problem"])


def test_a_view_that_equals_its_history_is_sound(projected: Projected, nexafi: Command) -> None:
    assert projected.position not in {b.last_position for b in projected.ledger.batches}
    assert problem(nexafi, 0) == "None"


def test_every_drift_of_a_balance_is_found(projected: Projected, nexafi: Command) -> None:
    account = projected.ledger.accounts[0]
    for change, word in (
        ("balance = balance + 1", account),
        ("available = available - 1", account),
        ("status = 'closed'", account),
    ):
        projected.execute(f"UPDATE views.accounts SET {change} WHERE account_id = %s", account)
        assert word in problem(nexafi, 1), change
        back = change.replace("+", "~").replace("-", "+").replace("~", "-").replace("'closed'", "'open'")
        projected.execute(f"UPDATE views.accounts SET {back} WHERE account_id = %s", account)
        assert problem(nexafi, 0) == "None"
    projected.execute("UPDATE views.accounts SET balance = 1 WHERE status = 'closed'")
    assert "closed and empty" in problem(nexafi, 1)
    projected.execute("UPDATE views.accounts SET balance = 0 WHERE status = 'closed'")
    projected.execute("UPDATE views.marks SET position = position + 1 WHERE view = 'ledger'")
    assert "the view says" in problem(nexafi, 1)  # a mark that lies about what the rows have taken in
    projected.execute("UPDATE views.marks SET position = 9999 WHERE view = 'ledger'")
    assert "9999" in problem(nexafi, 1)
    projected.execute("UPDATE views.marks SET position = %s WHERE view = 'ledger'", projected.position)
    projected.execute("DELETE FROM views.accounts WHERE account_id = %s", account)
    assert "lacks account" in problem(nexafi, 1)
