"""After a restore the signed heads are of a history that is over. An operator signs which heads hold from now on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from events.head_signer import HeadsUnreadableError, heads_of, judge, read_topic
from events.producer import new_producer
from events.signed_heads import HeadBook, SignedHead, book_of, known_keys, sign
from events.topics import HEADS
from nexafi.settings import Settings
from nexafi.signing import SigningKeys

#: A row of :func:`events.head_signer.heads_of`, and why it does not continue what was signed.
Discontinued: TypeAlias = tuple[Sequence[Any], str]


def discontinued(settings: Settings, service: str, book: HeadBook) -> list[Discontinued]:
    """Shards with a signed head that their store does not continue."""
    last = {s: h[-1].position for (name, s), h in book.heads.items() if name == service and h}
    judged = [(row, judge(service, row, book, 0)[1]) for row in heads_of(settings, service, last)]
    return [(row, why) for row, why in judged if why is not None and book.heads.get((service, row[0]))]


async def supersede(
    settings: Settings,
    keys: SigningKeys,
    service: str,
    book: HeadBook,
    rows: Iterable[Sequence[Any]],
    reason: str,
) -> list[SignedHead]:
    """Sign and publish the heads of now in place of the last signed ones; each names the one that it replaces."""
    producer, signed = new_producer(settings, "supersede"), []
    await producer.start()
    try:
        for shard, history, position, chain, _ in rows:
            before = book.heads[service, shard][-1]
            replaced = (before.position, before.chain_hash)
            chain_hash = bytes(chain).hex()
            now_us = time.time_ns() // 1000
            head = SignedHead(service, shard, history, position, chain_hash, now_us, replaced, reason)
            await producer.send_and_wait(HEADS, sign(head, keys).encode(), key=head.key, partition=0)
            signed.append(head)
    finally:
        await producer.stop()
    return signed


async def after_restore(settings: Settings, services: Iterable[str], reason: str) -> list[str]:
    """Supersede what a restore has ended, where the signing key is; what is left to be done, in words."""
    try:
        records = await read_topic(settings)
    except HeadsUnreadableError as error:
        return [f"{error}: run `nexafi audit supersede SERVICE` for each service when it can be"]
    keys = await asyncio.to_thread(known_keys, settings)
    if keys is None:
        if records:
            return ["heads were signed before: run `nexafi audit supersede SERVICE` where the signing key is"]
        return []
    book, notes = book_of(records, keys), []
    for service in services:
        found = await asyncio.to_thread(discontinued, settings, service, book)
        for head in await supersede(settings, keys, service, book, [row for row, _ in found], reason):
            assert head.supersedes is not None
            notes.append(
                f"{service}/{head.shard}: the head signed at position {head.supersedes[0]} is superseded by "
                f"that of now, at {head.position}"
            )
    return notes
