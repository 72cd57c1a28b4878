"""Commands as the gateway would put them on ``ledger.commands``, made beforehand and sent in large batches."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import psycopg

from events.producer import new_producer
from events.topics import commands_topic
from nexafi.settings import Settings
from schemas.common.envelope import CommandEnvelope

TENANT: Final = "bench"
CURRENCY: Final = "EUR"
_RESULT_TIMEOUT_S: Final = 120.0
_SEND_AT_ONCE: Final = 4_000


@dataclass(frozen=True, slots=True)
class Command:
    """One record: key, headers and value are made by :func:`send`."""

    shard: int
    id: str
    type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Book:
    """A ledger on ``shard`` and its accounts."""

    shard: int
    ledger: str
    accounts: list[str]


def random_ids(seed: int) -> Iterator[str]:
    """UUIDs (version 5 by their bits) that are spread like digests; the same for the same seed."""
    draw = random.Random(seed)
    while True:
        text = f"{draw.getrandbits(128):032x}"
        yield f"{text[:8]}-{text[8:12]}-5{text[13:16]}-a{text[17:20]}-{text[20:]}"


def transfers(books: Sequence[Book], count: int, seed: int) -> Iterator[Command]:
    """``count`` transfers of 1 cent between random accounts, over the books in turn."""
    draw, ids = random.Random(seed), random_ids(seed)
    for number in range(count):
        book = books[number % len(books)]
        source, target = draw.sample(book.accounts, 2)
        yield Command(
            book.shard, next(ids), "ledger.post-transaction.v1", transfer(book.ledger, source, target)
        )


def transfer(ledger: str, source: str, target: str) -> bytes:
    """The data of ``PostTransaction`` as the gateway writes them: canonical JSON."""
    return (
        '{"ledger_id":"%s","transaction":{"entries":[{"account_id":"%s","amount":1,"currency":"%s","side":"debit"},'
        '{"account_id":"%s","amount":1,"currency":"%s","side":"credit"}]}}'
        % (ledger, source, CURRENCY, target, CURRENCY)
    ).encode()


async def send(settings: Settings, commands: Iterator[Command]) -> int:
    """Put commands on ``ledger.commands``, each on its shard, in order; returns how many, all acknowledged."""
    producer = new_producer(settings, "bench")
    await producer.start()
    topic, sent = commands_topic("ledger"), 0
    builders: dict[int, Any] = {}
    deliveries: list[asyncio.Future[object]] = []
    hash_of = random.Random(sent)
    try:
        for command in commands:
            envelope = CommandEnvelope(
                command.id,
                command.type,
                TENANT,
                "key:bench",
                f"{hash_of.getrandbits(256):064x}",
                time_us=time.time_ns() // 1000,
            )
            builder = builders.get(command.shard)
            if builder is None:
                builder = builders[command.shard] = producer.create_batch()
            record = {"timestamp": None, "key": command.id.encode(), "value": command.data}
            while builder.append(**record, headers=envelope.headers()) is None:
                builder.close()
                deliveries.append(await producer.send_batch(builder, topic, partition=command.shard))
                builder = builders[command.shard] = producer.create_batch()
            sent += 1
            if sent % _SEND_AT_ONCE == 0:
                await asyncio.sleep(0)  # the sender's turn
        for shard, builder in builders.items():
            builder.close()
            deliveries.append(await producer.send_batch(builder, topic, partition=shard))
        for delivery in deliveries:
            await delivery
    finally:
        await producer.stop()
    return sent


async def open_books(settings: Settings, shards: int, accounts: int, seed: int) -> list[Book]:
    """A ledger on each shard with ``accounts`` accounts; a writer must be running."""
    ids = random_ids(seed)
    made = [
        Command(s, next(ids), "ledger.create-ledger.v1", orjson.dumps({"name": f"bench {s}"}))
        for s in range(shards)
    ]
    await send(settings, iter(made))
    results = await asyncio.to_thread(_results, settings, [c.id for c in made])
    ledgers = [results[c.id]["ledger_id"] for c in made]
    opened = [
        Command(
            s,
            next(ids),
            "ledger.open-account.v1",
            orjson.dumps({"ledger_id": ledgers[s], "code": f"a{n}", "currency": CURRENCY}),
        )
        for n in range(accounts)
        for s in range(shards)
    ]
    await send(settings, iter(opened))
    results = await asyncio.to_thread(_results, settings, [c.id for c in opened])
    of_shard: dict[int, list[str]] = {s: [] for s in range(shards)}
    for command in opened:
        of_shard[command.shard].append(results[command.id]["account_id"])
    return [Book(s, ledgers[s], of_shard[s]) for s in range(shards)]


def _results(settings: Settings, ids: list[str]) -> dict[str, dict[str, str]]:
    """What the writer answered to commands; waits until it has answered all."""
    deadline = time.monotonic() + _RESULT_TIMEOUT_S
    with psycopg.connect(settings.database, autocommit=True) as connection:
        while True:
            rows = connection.execute(
                "SELECT command_id::text, outcome, result FROM ledger.command_results WHERE command_id = ANY(%s::uuid[])",
                (ids,),
            ).fetchall()
            if len(rows) == len(ids):
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(rows)} of {len(ids)} commands were answered")
            time.sleep(0.1)
    refused = [bytes(result) for _, outcome, result in rows if outcome]
    assert not refused, refused[0]
    return {name: orjson.loads(result) for name, _, result in rows}
