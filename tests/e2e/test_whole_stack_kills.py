"""R4: the whole stack, servers and roles and supervisor, is killed under load again and again; no acknowledgement is lost."""

from __future__ import annotations

import asyncio
import random

import psycopg
import pytest

from tests.kit.api import callers
from tests.kit.book import Book, book_of
from tests.kit.platform import Platform
from tests.kit.soak import Figure, Printed, figures
from tests.kit.whole_stack import Transfers, whole_stack

pytestmark = [pytest.mark.stack, pytest.mark.kill]

#: Answers that are asked for again with their old keys after the last kill.
ASKED_AGAIN = 200


def assert_all_are_stored(platform: Platform, posted: dict[str, str]) -> None:
    """Every transaction that was acknowledged is an event of the ledger, once."""
    with psycopg.connect(platform.settings.database) as conn:
        rows = conn.execute(
            "SELECT originator_id::text, count(*) FROM ledger.events WHERE topic = 'ledger.transaction-posted.v1' GROUP BY 1"
        ).fetchall()
    stored = dict(rows)
    assert [t for t in posted.values() if stored.get(t) != 1] == []


async def balance_of_alice(book: Book) -> int:
    """As the view has it now."""
    answer = await book.caller.get(f"{book.path}/accounts/{book.alice}")
    return int(answer.json()["balance"]) if answer.status == 200 else -1


@figures("R4")
async def test_kills_of_the_whole_stack_lose_nothing(figure: Figure, printed: Printed) -> None:
    rng, killed = random.Random(4), 0
    with whole_stack() as stack:
        platform = await asyncio.to_thread(stack.up)
        async with callers(platform, "acme") as (caller,):
            book = await book_of(caller)
            load = Transfers(book)
            load.start()
            for number in range(figure["kills"]):
                wanted = figure["acknowledgements"] * (number + 1) // figure["kills"]
                await load.reach(wanted, timeout_s=600)
                await asyncio.sleep(rng.uniform(0.0, 0.5))
                killed += await asyncio.to_thread(stack.kill)
                acknowledged = dict(load.posted)
                await asyncio.to_thread(stack.up)
                await asyncio.to_thread(assert_all_are_stored, platform, acknowledged)
            await load.stop()
            await load.settle()
            await asyncio.to_thread(assert_all_are_stored, platform, load.posted)
            for key in rng.sample(sorted(load.posted), min(ASKED_AGAIN, len(load.posted))):
                assert (await load.ask(key)).result["transaction_id"] == load.posted[key]
            async with asyncio.timeout(120):
                while await balance_of_alice(book) != len(load.posted):  # noqa: ASYNC110 -- the view says when
                    await asyncio.sleep(0.5)
        assert "0 shards wrong" in await asyncio.to_thread(stack.nexafi, "audit", "verify")
    printed("R4", kills=figure["kills"], processes_killed=killed, acknowledgements=len(load.posted), lost=0)
