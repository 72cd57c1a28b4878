"""What the ledger's view must show, folded from events by other means than the view: plain loops over plain lists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from schemas.ledger.events import (
    AccountOpened,
    HoldPlaced,
    HoldPosted,
    HoldVoided,
    LedgerCreated,
    TransactionPosted,
)
from tests.kit.history import History
from tests.kit.views import Views


def balances(history: History) -> dict[str, dict[str, Any]]:
    """Account id -> what its row must say."""
    out: dict[str, dict[str, Any]] = {}
    holds: dict[str, HoldPlaced] = {}
    for recorded in history.events:
        event = recorded.event
        if isinstance(event, AccountOpened):
            out[event.account_id] = {
                "side": event.normal_side,
                "debit": 0,
                "credit": 0,
                "n": 0,
                "pd": 0,
                "pc": 0,
            }
        elif isinstance(event, TransactionPosted):
            for entry in event.entries:
                out[entry.account_id][entry.side] += entry.amount
                out[entry.account_id]["n"] += 1
        elif isinstance(event, HoldPlaced):
            holds[event.hold_id] = event
            out[event.debit_account_id]["pd"] += event.amount
            out[event.credit_account_id]["pc"] += event.amount
        elif isinstance(event, HoldPosted | HoldVoided):
            freed = event.released + (event.amount if isinstance(event, HoldPosted) else 0)
            out[holds[event.hold_id].debit_account_id]["pd"] -= freed
            out[holds[event.hold_id].credit_account_id]["pc"] -= freed
    for row in out.values():
        sign = 1 if row["side"] == "debit" else -1
        row["balance"] = sign * (row["debit"] - row["credit"])
        row["available"] = row["balance"] - (row["pc"] if row["side"] == "debit" else row["pd"])
    return out


def entries(history: History) -> dict[str, list[tuple[int, int, int, int]]]:
    """Account id -> (recorded at, effective at, signed amount on the normal side, balance after), as recorded."""
    sides = {
        e.event.account_id: e.event.normal_side for e in history.events if isinstance(e.event, AccountOpened)
    }
    out: dict[str, list[tuple[int, int, int, int]]] = defaultdict(list)
    for recorded in history.events:
        event = recorded.event
        if isinstance(event, TransactionPosted):
            for entry in event.entries:
                moved = entry.amount if entry.side == sides[entry.account_id] else -entry.amount
                before = out[entry.account_id][-1][3] if out[entry.account_id] else 0
                out[entry.account_id].append(
                    (recorded.envelope.time_us, event.effective_at, moved, before + moved)
                )
    return out


def assert_ledger_equals(views: Views, histories: Sequence[History]) -> None:
    """The live ``ledger`` view holds exactly what these histories say, and no more."""
    wanted: dict[str, dict[str, Any]] = {}
    lines: dict[str, list[tuple[int, int, int, int]]] = {}
    for history in histories:
        wanted |= balances(history)
        lines |= entries(history)
    rows = views.query(
        "SELECT account_id::text, posted_debit, posted_credit, pending_debit, pending_credit, balance, available,"
        " entries FROM views.accounts"
    )
    have = {r[0]: tuple(map(int, r[1:])) for r in rows}
    assert have == {
        a: (w["debit"], w["credit"], w["pd"], w["pc"], w["balance"], w["available"], w["n"])
        for a, w in wanted.items()
    }
    found: dict[str, list[tuple[int, int, int, int]]] = defaultdict(list)
    sequences: dict[str, list[int]] = defaultdict(list)
    for account, sequence, recorded, effective, moved, after in views.query(
        "SELECT e.account_id::text, sequence, recorded_at, effective_at,"
        " CASE WHEN side = normal_side THEN amount ELSE -amount END, balance_after"
        " FROM views.entries e JOIN views.accounts a USING (account_id) ORDER BY e.account_id, recorded_at, sequence"
    ):
        found[account].append((recorded, effective, int(moved), int(after)))
        sequences[account].append(sequence)
    assert found == {a: found_lines for a, found_lines in lines.items() if found_lines}
    assert all(s == list(range(1, len(s) + 1)) for s in sequences.values())
    posted = [e.event for h in histories for e in h.events if isinstance(e.event, TransactionPosted)]
    stored = views.query("SELECT transaction_id::text, description, reference FROM views.transactions")
    assert sorted(stored) == sorted((t.transaction_id, t.description, t.reference) for t in posted)
    books = sum(isinstance(e.event, LedgerCreated) for h in histories for e in h.events)
    assert views.query("SELECT count(*) FROM views.ledgers") == [(books,)]
    totals = views.query(
        "SELECT sum(posted_debit) - sum(posted_credit), sum(entries), sum(pending_debit) - sum(pending_credit)"
        " FROM views.trial_balances"
    )
    assert [tuple(map(int, t)) for t in totals] == [(0, sum(map(len, lines.values())), 0)]
