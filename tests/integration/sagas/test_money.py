"""Transfers over HTTP while the gateway and the ledger are killed: no money comes, goes, or is said to have moved and did not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import psycopg
import pytest

from tests.kit.mortal import shown
from tests.kit.patient_book import Book, assert_conserved_at_every_position, assert_stores_verify, full_read
from tests.kit.soak import Figure, Printed, figures

pytestmark = pytest.mark.kill
ACCOUNTS = 40


@figures("R1")
async def test_money_is_conserved_and_what_was_acknowledged_stays(
    book: Book, figure: Figure, printed: Printed
) -> None:
    """R1, R4: every read balances, at every position; every transfer that was answered is there, once."""
    platform = book.platform
    await book.open_accounts(ACCOUNTS, 1_000_000)
    numbers, acknowledged = iter(range(figure["transfers"])), dict[str, int]()
    reading, reads = True, 0

    async def client(seed: int) -> None:
        rng = random.Random(seed)
        for number in numbers:
            debit, credit = rng.sample(range(ACCOUNTS + 1), 2)
            answer = await book.transfer(debit, credit, amount := rng.randint(1, 500), f"t{number}")
            assert answer.status == 201, answer.body
            acknowledged[answer.result["transaction_id"]] = amount

    async def reader() -> None:
        nonlocal reads
        while reading or reads < figure["reads"]:
            await asyncio.to_thread(full_read, platform.settings)
            reads += 1

    readers = [asyncio.create_task(reader()) for _ in range(2)]
    before = dict(platform.kills)
    clients = asyncio.gather(*(client(n) for n in range(figure["clients"])))
    await platform.slaughter(random.Random(4), figure["kills"], ("ledger", "gateway", "ledger"))
    await clients
    reading = False
    await asyncio.gather(*readers)
    killed = {n: k - before.get(n, 0) for n, k in platform.kills.items() if k > before.get(n, 0)}

    stored = {
        str(stream): orjson.loads(state)["entries"][0]["amount"]
        for stream, state in platform.query(
            "SELECT originator_id, state FROM ledger.events WHERE topic = 'ledger.transaction-posted.v1'"
        )
        if orjson.loads(state)["ledger_id"] == book.ledger
    }
    assert len(acknowledged) == figure["transfers"], "two transfers were given one id"
    assert {i: stored.get(i) for i in acknowledged} == acknowledged, "an acknowledged transfer is lost"
    assert len(stored) == figure["transfers"] + ACCOUNTS, "a transfer took effect twice"
    positions = assert_conserved_at_every_position(platform.settings)
    assert_stores_verify(platform.settings, "ledger")
    printed(
        "R1",
        transfers=len(acknowledged),
        clients=figure["clients"],
        full_reads=reads,
        positions=positions,
        killed=shown(killed),
        asked_again=book.repeats,
        lost=0,
        doubled=0,
        violations=0,
    )
    await asyncio.to_thread(platform.wait_ready)


async def test_a_read_that_does_not_balance_is_noticed(book: Book) -> None:
    """The check itself: one entry changed in the store, and both ways of reading find it."""
    settings = book.platform.settings
    await book.open_accounts(2, 100)
    with _a_cent_more(book):
        with pytest.raises(AssertionError, match="EUR"):
            full_read(settings)
        with pytest.raises(AssertionError, match="EUR"):
            assert_conserved_at_every_position(settings)
    assert full_read(settings) == assert_conserved_at_every_position(settings)


@contextmanager
def _a_cent_more(book: Book) -> Iterator[None]:
    """The first entry of the ledger's last transaction is changed behind the engine's back, and put right again."""
    where = (
        "(shard, position) = (SELECT shard, max(position) FROM ledger.events WHERE topic = "
        "'ledger.transaction-posted.v1' AND shard = (SELECT shard FROM ledger.events WHERE originator_id = %s "
        "LIMIT 1) GROUP BY shard)"
    )
    with psycopg.connect(book.platform.settings.database, autocommit=True) as conn:
        row = conn.execute(f"SELECT state FROM ledger.events WHERE {where}", (book.ledger,)).fetchone()
        assert row is not None
        sound = bytes(row[0])
        changed = sound.replace(b'"amount":100', b'"amount":101', 1)
        assert changed != sound
        statement = f"UPDATE ledger.events SET state = %s WHERE {where}"
        conn.execute(statement, (changed, book.ledger))
        yield
        conn.execute(statement, (sound, book.ledger))
