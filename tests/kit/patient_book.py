"""A tenant with a ledger on a platform whose roles die: callers that ask again with the same key until they know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import psycopg

from events.store.recorder import ShardRecorder, open_datastore
from events.verify import verify_store
from nexafi.settings import Settings
from tests.kit.api import Answer, Caller, callers
from tests.kit.mortal import Mortal

#: Statuses after which nothing is known: the caller asks again.
_AGAIN = {202, 429, 502, 503, 504}


@dataclass
class Book:
    """One ledger in EUR with accounts; ``accounts[0]`` is the bank, which may be overdrawn."""

    platform: Mortal
    caller: Caller
    ledger: str = ""
    accounts: list[str] = field(default_factory=list)
    funds: int = 0
    repeats: int = 0

    @classmethod
    @asynccontextmanager
    async def opened(cls, platform: Mortal) -> AsyncIterator[Book]:
        """A new tenant's, without accounts."""
        async with callers(platform, "book") as (caller,):  # type: ignore[arg-type]
            book = cls(platform, caller)
            book.ledger = (await book.sure("/v1/ledgers", {"name": "main"}, "ledger")).result["ledger_id"]
            yield book

    async def sure(
        self, path: str, body: Any, key: str, *, wait_s: int = 10, limit_s: float = 180.0
    ) -> Answer:
        """Send a command until its outcome is known: connections break and answers stay away while roles die."""
        deadline = time.monotonic() + limit_s
        while True:
            try:
                answer = await self.caller.post(path, body, key=key, wait_s=wait_s)
                if answer.status not in _AGAIN:
                    return answer
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass  # the connection broke: 0 or 1 effects, and the same key finds out
            assert time.monotonic() < deadline, f"no answer to {path} within {limit_s:.0f} s"
            self.repeats += 1
            await asyncio.sleep(0.1)

    async def open_accounts(self, count: int, funds: int) -> None:
        """The bank and ``count`` customers, each with ``funds`` and not to be overdrawn."""
        self.funds = funds
        path = f"/v1/ledgers/{self.ledger}/accounts"
        bank = await self.sure(path, {"code": "bank", "currency": "EUR", "normal_side": "debit"}, "bank")
        bodies = [{"code": f"c{i}", "currency": "EUR", "floor": 0} for i in range(count)]
        made = await asyncio.gather(*(self.sure(path, b, f"open-{b['code']}") for b in bodies))
        self.accounts = [bank.result["account_id"], *(m.result["account_id"] for m in made)]
        if funds:
            await asyncio.gather(*(self.transfer(0, i, funds, f"fund-{i}") for i in range(1, count + 1)))

    async def transfer(self, debit: int, credit: int, amount: int, key: str) -> Answer:
        """Move money from account ``debit`` to account ``credit``, by their numbers."""
        return await self.sure(
            f"/v1/ledgers/{self.ledger}/transactions", self.legs(debit, credit, amount), key
        )

    def legs(self, debit: int, credit: int, amount: int) -> dict[str, Any]:
        """Body of a transfer."""
        sides = ((self.accounts[debit], "debit"), (self.accounts[credit], "credit"))
        return {
            "entries": [{"account_id": a, "side": s, "amount": amount, "currency": "EUR"} for a, s in sides]
        }

    async def pay(self, payer: int, payee: int, amount: int, key: str, payee_name: str = "Bob Miller") -> str:
        """Initiate a payment; its id."""
        body = {
            "ledger_id": self.ledger,
            "payer": {"account_id": self.accounts[payer], "name": "Alice Jones"},
            "payee": {"account_id": self.accounts[payee], "name": payee_name},
            "amount": amount,
            "currency": "EUR",
        }
        payment_id: str = (await self.sure("/v1/payments", body, key)).result["payment_id"]
        return payment_id


# ------------------------------------------------------------------ what the stores say

#: Sum of debits less credits by currency over everything that was posted, in one snapshot with the heads.
_BALANCE = """
SELECT (SELECT coalesce(jsonb_object_agg(currency, total), '{}') FROM (
          SELECT e->>'currency' AS currency,
                 sum(CASE e->>'side' WHEN 'debit' THEN (e->>'amount')::numeric ELSE -(e->>'amount')::numeric END) AS total
          FROM ledger.events, jsonb_array_elements(convert_from(state, 'UTF8')::jsonb->'entries') AS e
          WHERE topic = 'ledger.transaction-posted.v1' GROUP BY 1) by_currency),
       (SELECT count(*) FROM ledger.events),
       (SELECT sum(next_position - 1) FROM ledger.shard_head)
"""


def full_read(settings: Settings) -> int:
    """Read the whole ledger store at one moment and assert that it balances; how many events that were."""
    with psycopg.connect(settings.database) as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        row = conn.execute(_BALANCE).fetchone()
    assert row is not None
    totals, events, heads = row
    assert all(total == 0 for total in totals.values()), totals
    assert events == heads, "heads and events are not of one moment"
    return int(events)


def assert_conserved_at_every_position(settings: Settings) -> int:
    """Every currency sums to zero after each single event of each shard; how many positions that were."""
    with psycopg.connect(settings.database) as conn:
        rows = conn.execute(
            "SELECT shard, position, topic, state FROM ledger.events ORDER BY shard, position"
        )
        totals: dict[tuple[int, str], int] = {}
        last: dict[int, int] = {}
        count = 0
        for shard, position, topic, state in rows:
            assert position == last.get(shard, 0) + 1, (shard, position)
            last[shard] = position
            count += 1
            if topic != "ledger.transaction-posted.v1":
                continue
            for entry in orjson.loads(state)["entries"]:
                sign = 1 if entry["side"] == "debit" else -1
                key = shard, entry["currency"]
                totals[key] = totals.get(key, 0) + sign * entry["amount"]
            assert all(total == 0 for total in totals.values()), (shard, position, totals)
    return count


def assert_stores_verify(settings: Settings, *services: str) -> None:
    """Hash chain, streams, invariants and balances of whole stores, computed anew."""
    from cli.deciders import decider_of

    for service in services:
        store = open_datastore(settings.database, service)
        try:
            reports = verify_store(ShardRecorder(store, service=service), decider_of(service))
        finally:
            store.close()
        assert [r.problem for r in reports if r.problem] == []
