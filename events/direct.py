"""Whole polls of a FastStream batch subscriber, handed over without its middle.

FastStream keeps the consumer's life. Its way from a poll to a handler (parser, filter in a worker thread, dependency
injection, logging) takes half a millisecond a batch, and after an empty poll it sleeps, deaf to new records.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"
#: How long one poll waits for records; how often a consumer without any looks at whether it is to end.
POLL_MS: Final = 500


def hand_over(subscriber: Any, handle: Callable[[Sequence[Record]], Awaitable[None]]) -> None:
    """Let ``handle`` have every poll that brought records. It must not raise: FastStream would skip them."""

    async def get_msg(consumer: AIOKafkaConsumer[bytes, bytes]) -> tuple[Record, ...]:
        while True:
            batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=subscriber.max_records)
            if batches:
                return tuple(record for records in batches.values() for record in records)

    async def consume_one(records: tuple[Record, ...]) -> None:
        with subscriber.lock:  # stopping waits for the batch under way
            await handle(records)

    subscriber(_never_called)
    subscriber.get_msg = get_msg
    subscriber.consume_one = consume_one


async def _never_called(_records: list[bytes]) -> None:
    """A subscriber must have a handler."""
