"""Balances effective at one time, as known at another, against plain sums over the same events."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import httpx
import psycopg

from events.migrations import migrate as migrate_stores
from nexafi.database import async_engine
from projections.queries.balances import ONE_BALANCE
from schemas.common import tokens
from schemas.common.envelope import rfc3339
from services.ledger.api import routes
from tests.integration.projections.conftest import Make
from tests.kit.asking import asking
from tests.kit.history import LedgerHistory
from tests.kit.views import Views


def told(service: str, shard: int, transfers: int, *, seed: int = 1) -> LedgerHistory:
    """Transfers of which every third counts at another time, up to ten days before or after."""
    history = LedgerHistory.begin(service, shard, 6)
    rng = random.Random(seed)
    for n in range(transfers):
        if n % 3 == 0:
            history.tick(rng.randrange(1, 3_600_000_000))
        debit, credit = rng.sample(range(6), 2)
        dated = n % 3 == 1
        moment = history.now_us + rng.randrange(-10, 10) * 86_400_000_000 if dated else None
        history.transfer(debit, credit, rng.randrange(1, 10_000), effective_at=moment)
    return history


def legs(history: LedgerHistory) -> Iterator[tuple[str, int, int, int, int]]:
    """(account, position, recorded at, effective at, amount on the normal side) of every entry."""
    normal = {}
    for recorded in history.events:
        event: Any = recorded.event
        if "normal_side" in type(event).model_fields:
            normal[event.account_id] = event.normal_side
        if "entries" in type(event).model_fields:
            for entry in event.entries:
                sign = 1 if entry.side == normal[entry.account_id] else -1
                at = recorded.envelope
                yield entry.account_id, at.position, at.time_us, event.effective_at, sign * entry.amount


def summed(history: LedgerHistory, account: str, at_us: int, position: int) -> int:
    """The balance by summing what counts up to ``at_us`` and was recorded up to ``position``."""
    return sum(
        amount
        for a, p, _, effective, amount in legs(history)
        if a == account and p <= position and effective <= at_us
    )


def store_batches(views: Views, history: LedgerHistory) -> None:
    """What the writer would have noted in its store: which positions were recorded when."""
    migrate_stores(views.settings, (history.service,))
    with psycopg.connect(views.settings.database) as connection:
        for time_us, group in groupby(history.events, key=lambda r: r.envelope.time_us):
            positions = [r.envelope.position for r in group]
            connection.execute(
                f'INSERT INTO "{history.service}".batches VALUES (%s, %s, %s, %s, 1, 0, %s, %s)',
                (history.shard, positions[0], positions[-1], time_us, b"", b""),
            )


async def ask(client: httpx.AsyncClient, history: LedgerHistory, path: str, **query: str) -> dict[str, Any]:
    """The answer about the history's ledger."""
    answer = await client.get(f"/internal/v1/ledgers/{history.ledger_id}{path}", params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_balance_effective_then_as_known_then(make_views: Make) -> None:
    """Random pairs of times, by time and by the returned positions; before, between and after all entries."""
    views = await make_views()
    history = told(views.service("ledger"), 1, 300)
    await views.publish(history)
    store_batches(views, history)
    rng = random.Random(3)
    async with views.running("ledger"):
        await views.reached("ledger", history)
        async with asking(views.settings, routes) as client:
            first, last = history.events[0].envelope.time_us, history.now_us
            day = 86_400_000_000
            for _ in range(40):
                at = rng.randrange(first - 11 * day, last + 11 * day)
                known = rng.randrange(first - day, last + day)
                account = rng.choice(history.accounts)
                position = max(
                    (r.envelope.position for r in history.events if r.envelope.time_us <= known), default=0
                )
                query = {"at": rfc3339(at), "known_at": rfc3339(known)}
                body = (await ask(client, history, f"/accounts/{account}", **query))["balance_at"]
                assert body["known_at"]["positions"] == {f"{history.service}/1": position}
                assert body["balance"] == summed(history, account, at, position)
                again = await ask(
                    client,
                    history,
                    f"/accounts/{account}",
                    at=query["at"],
                    known_at=body["known_at"]["token"],
                )
                assert again["balance_at"] == body
            # Known now: everything; and what is effective now is the balance once nothing lies ahead.
            account = history.accounts[2]
            body = await ask(client, history, f"/accounts/{account}", at=rfc3339(last + 11 * day))
            assert body["balance_at"]["balance"] == body["balance"]
            assert body["balance_at"]["known_at"]["positions"] == {f"{history.service}/1": history.position}


async def test_trial_balance_then(make_views: Make) -> None:
    """Debit balances equal credit balances at any pair of times, and equal the accounts' own."""
    views = await make_views()
    history = told(views.service("ledger"), 0, 120, seed=2)
    await views.publish(history)
    store_batches(views, history)
    at = history.events[70].envelope.time_us
    async with views.running("ledger"):
        await views.reached("ledger", history)
        async with asking(views.settings, routes) as client:
            known = rfc3339(history.events[90].envelope.time_us)
            body = await ask(client, history, "/trial-balance", at=rfc3339(at), known_at=known)
            position = body["known_at"]["positions"][f"{history.service}/0"]
            [euro] = body["currencies"]
            assert euro["debit_balances"] == euro["credit_balances"] > 0
            balances = [summed(history, a, at, position) for a in history.accounts]
            sides = ["debit" if n % 7 == 0 else "credit" for n in range(6)]
            debits = sum(abs(b) for b, s in zip(balances, sides, strict=True) if (s == "debit") == (b >= 0))
            assert euro["debit_balances"] == debits


async def test_wrong_times_and_positions_are_refused(make_views: Make) -> None:
    """No position that is not there, no token of another ledger, no other tenant's account."""
    views = await make_views()
    history = told(views.service("ledger"), 0, 10)
    await views.publish(history)
    store_batches(views, history)
    path = f"/internal/v1/ledgers/{history.ledger_id}/accounts/{history.accounts[0]}"
    async with views.running("ledger"):
        await views.reached("ledger", history)
        async with (
            asking(views.settings, routes) as client,
            asking(views.settings, routes, "globex") as other,
        ):
            ahead = tokens.one(history.service, 0, history.position + 1)
            foreign = tokens.one("payments", 0, 1)
            for wrong in (ahead, foreign, "garbage", "2026-13-01T00:00:00Z"):
                answer = await client.get(path, params={"known_at": wrong})
                assert (answer.status_code, answer.json()["pointer"]) == (400, "?known_at"), wrong
            assert (await client.get(path, params={"at": "yesterday"})).status_code == 400
            hidden = await other.get(path, params={"at": rfc3339(history.now_us)})
            assert hidden.status_code == 404
            nothing = await client.get(path, params={"known_at": tokens.one(history.service, 0, 0)})
            assert nothing.json()["balance_at"]["balance"] == 0


async def test_long_account_is_not_summed(make_views: Make) -> None:
    """An account with 40,000 entries: the balance in the middle of them is read from a few pages, whatever its age."""
    views = await make_views()
    history = LedgerHistory.begin(views.service("ledger"), 0, 2)
    history.random_transfers(20_000, random.Random(1))
    for _ in range(10):
        history.transfer(0, 1, 7, effective_at=history.now_us - 5_000)
    await views.publish(history)
    async with views.running("ledger"):
        await views.reached("ledger", history)
    views.execute("ANALYZE views.entries_v1")
    middle = history.events[10_000].envelope
    values = {
        "at": middle.time_us,
        "position": middle.position,
        "recorded": middle.time_us,
        "account_id": history.accounts[1],
    }
    engine = async_engine(views.settings, "explain", pool_size=1)
    from sqlalchemy import text

    async with engine.connect() as connection:
        balance = (await connection.execute(text(ONE_BALANCE), values)).scalar_one()
        plan = (
            await connection.execute(text("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + ONE_BALANCE), values)
        ).scalar_one()
    await engine.dispose()
    top = plan[0]["Plan"]
    pages = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    total = views.query("SELECT pg_relation_size('views.entries_v1') / 8192")[0][0]
    print(f"\nbalance at a time among {len(history.events):,} entries: {pages} of {total} pages read")
    assert int(balance) == summed(history, history.accounts[1], middle.time_us, middle.position)
    assert pages < 60 < total / 5


async def test_holds_of_a_credit_account(make_views: Make) -> None:
    """Who waits for money asks by credit account, who reserves it by debit account."""
    views = await make_views()
    history = LedgerHistory.begin(views.service("ledger"), 0, 4)
    wanted = [history.hold(1, 2, 10), history.hold(3, 2, 20)]
    history.hold(2, 1, 30)
    await views.publish(history)
    async with views.running("ledger"):
        await views.reached("ledger", history)
        async with asking(views.settings, routes) as client:
            body = await ask(client, history, "/holds", credit_account_id=history.accounts[2])
            assert [h["hold_id"] for h in body["items"]] == sorted(wanted, reverse=True)
            body = await ask(client, history, "/holds", account_id=history.accounts[3], limit="1")
            assert [h["hold_id"] for h in body["items"]] == wanted[1:]
