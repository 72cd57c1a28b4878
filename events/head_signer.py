"""The role that signs shard heads and publishes them to ``nexafi.heads``, outside the database.

It signs only what continues the last head that it (or its predecessor) signed. When history does not, it does
not sign: it says so in health, and the signed evidence stays in the topic until an operator has looked and
superseded it (``nexafi audit supersede``), as after a restore.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

import psycopg
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from events.migrations import SERVICES
from events.producer import new_producer
from events.signed_heads import HeadBook, Keys, SignedHead, book_of, sign, signing_keys
from events.store.tables import schema_name
from events.topics import HEADS
from nexafi.role import RoleContext
from nexafi.settings import Settings
from nexafi.signing import SigningKeys

log = structlog.get_logger(__name__)
READ_TIMEOUT_S: Final = 60.0
_CONNECT_TIMEOUT_S: Final = 10


class HeadsUnreadableError(Exception):
    """The topic of signed heads could not be read to its end in time."""


async def read_topic(settings: Settings) -> list[tuple[bytes | None, bytes | None]]:
    """Every record (key, value) that is now on ``nexafi.heads``, in order."""
    partition = TopicPartition(HEADS, 0)
    consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka, enable_auto_commit=False, isolation_level="read_committed"
    )
    consumer.assign([partition])
    records: list[tuple[bytes | None, bytes | None]] = []
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            await consumer.start()
            await consumer.seek_to_beginning(partition)
            end = (await consumer.end_offsets([partition]))[partition]
            while await consumer.position(partition) < end:
                for found in (await consumer.getmany(timeout_ms=500)).values():
                    records.extend((r.key, r.value) for r in found if r.offset < end)
    except (TimeoutError, KafkaError, AssertionError) as error:
        raise HeadsUnreadableError(f"{HEADS} can not be read: {type(error).__name__}: {error}") from error
    finally:
        await consumer.stop()
    return records


async def read_book(settings: Settings, keys: Keys) -> HeadBook:
    """The signed heads on the topic."""
    return book_of(await read_topic(settings), keys)


def heads_of(settings: Settings, service: str, last: dict[int, int]) -> list[tuple[Any, ...]]:
    """``(shard, history, position, chain, chain at last[shard])`` of each shard with history, at one moment."""
    s = schema_name(service)
    with psycopg.connect(settings.database, connect_timeout=_CONNECT_TIMEOUT_S) as conn:
        return conn.execute(
            "SELECT h.shard, h.history::text, h.next_position - 1, h.chain_hash, b.chain_hash "
            f'FROM "{s}".shard_head h '
            "LEFT JOIN unnest(%s::smallint[], %s::bigint[]) AS l(shard, position) USING (shard) "
            "LEFT JOIN LATERAL (SELECT chain_hash FROM "
            f'"{s}".batches x WHERE x.shard = h.shard AND x.first_position <= l.position '
            "ORDER BY x.first_position DESC LIMIT 1) b ON true ORDER BY h.shard",
            (list(last), list(last.values())),
        ).fetchall()


def judge(
    service: str, row: Sequence[Any], book: HeadBook, now_us: int
) -> tuple[SignedHead | None, str | None]:
    """The head to sign (``None`` when nothing is new), or why this shard must not be signed."""
    shard, history, position, chain, chain_at_last = row
    place = (service, shard)
    last = book.latest(place)
    if place in book.problems:
        return None, book.problems[place]
    head = SignedHead(service, shard, history, position, bytes(chain).hex(), now_us)
    if last is None:
        return (head if position else None), None
    if position < last.position:
        return None, f"history ends at {position}, and {last.position} was signed: it was cut or rolled back"
    if history != last.history:
        return None, f"history {history} is not {last.history}, which was signed"
    if chain_at_last is None or bytes(chain_at_last).hex() != last.chain_hash:
        return None, f"position {last.position} has another chain hash than was signed: written anew"
    return (head if position > last.position else None), None


class HeadSigner:
    """Signs the heads of all stores every few seconds."""

    def __init__(
        self,
        ctx: RoleContext,
        keys: SigningKeys,
        producer: AIOKafkaProducer,
        services: Sequence[str] = SERVICES,
    ) -> None:
        self.ctx = ctx
        self.keys = keys
        self.book = HeadBook()
        self.signed = 0
        self._producer = producer
        self._services = services
        self._refused: set[str] = set()

    async def load(self) -> None:
        """Learn what was signed before."""
        self.book = await read_book(self.ctx.settings, self.keys)

    async def sign_all(self) -> None:
        """One round over all stores."""
        if self._refused:
            await self.load()  # an operator may have superseded what held us up
        for service in self._services:
            last = {
                shard: heads[-1].position
                for (name, shard), heads in self.book.heads.items()
                if name == service and heads
            }
            rows = await asyncio.to_thread(heads_of, self.ctx.settings, service, last)
            for row in rows:
                await self._consider(service, row)

    async def _consider(self, service: str, row: Sequence[Any]) -> None:
        name = f"heads/{service}/{row[0]}"
        head, problem = judge(service, row, self.book, time.time_ns() // 1000)
        if problem is not None:
            if name not in self._refused:
                log.error("head not signed", service=service, shard=row[0], why=problem)
            self._refused.add(name)
            self.ctx.health.bad(name, f"not signed: {problem}")
            return
        if name in self._refused:
            self._refused.discard(name)
            self.ctx.health.ok(name)
        if head is not None:
            token = sign(head, self.keys)
            await self._producer.send_and_wait(HEADS, token.encode(), key=head.key, partition=0)
            self.book.heads[head.place] = [head]  # the newest is all that the next round needs
            self.signed += 1


async def run(ctx: RoleContext, services: Sequence[str] = SERVICES) -> None:
    """Sign until ``ctx.stop`` is set, and once more while stopping."""
    health, every_s = ctx.health, ctx.settings.heads_every_s
    health.expect("heads")
    try:
        keys = await asyncio.to_thread(signing_keys, ctx.settings)
    except OSError as error:  # a container without a folder of its own
        raise RuntimeError(
            f"there is no key to sign with, and none can be kept ({error}): set NEXAFI_HEAD_SIGNING_KEYS to what "
            "`nexafi audit keys --new` prints"
        ) from error
    producer = new_producer(ctx.settings, "heads")
    await producer.start()
    signer = HeadSigner(ctx, keys, producer, services)
    try:
        loaded = False
        while True:
            try:
                if not loaded:
                    await signer.load()
                    loaded = True
                await signer.sign_all()
                health.ok("heads")
                health.details["heads"] = {"signed": signer.signed}
            except (HeadsUnreadableError, KafkaError, psycopg.Error) as error:
                health.bad("heads", f"{type(error).__name__}: {error}")
                log.warning("heads not signed; trying again", error=str(error))
            if ctx.stop.is_set():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ctx.stop.wait(), every_s)
    finally:
        await producer.stop()
