"""Replies: hints on ``nexafi.replies`` that make waiting for a command quick. The stored result is the truth.

A writer packs the answers of one batch for one gateway partition into one record. A gateway reads its
partition from its end, without a group, and ignores answers to commands that are not its own.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import orjson
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from xxhash import xxh64_intdigest

from events.topics import REPLIES
from nexafi.settings import Settings
from schemas.common.outcomes import CommandResult

log = structlog.get_logger(__name__)


class ReplySender:
    """The writer's side."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._pending: set[asyncio.Task[None]] = set()

    def send(self, replies: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Send the answers of one batch, without waiting: a lost reply only makes its caller ask."""
        grouped: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for address, body in replies:
            grouped[int(address[3:])].append(body)
        for partition, bodies in grouped.items():
            task = asyncio.create_task(self._send(partition, bodies))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def _send(self, partition: int, bodies: list[dict[str, Any]]) -> None:
        try:
            for start in range(0, len(bodies), 5000):  # a record stays well below the topic's limit
                await self._producer.send(
                    REPLIES, orjson.dumps({"results": bodies[start : start + 5000]}), partition=partition
                )
        except Exception as error:  # noqa: BLE001 -- a hint: whoever waits will ask for the stored result
            log.warning("reply not sent", partition=partition, count=len(bodies), error=str(error))


class ReplyListener:
    """The gateway's side: futures by command id."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.partition = xxh64_intdigest(settings.instance.encode()) % settings.reply_partitions
        self._waiting: dict[str, asyncio.Future[CommandResult]] = {}
        self._consumer: AIOKafkaConsumer[bytes, bytes] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """What goes into ``reply_to``."""
        return f"gw:{self.partition}"

    async def start(self) -> None:
        """Begin at the end of this gateway's partition. Only afterwards may a command be produced."""
        consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
            bootstrap_servers=self._settings.kafka,
            client_id=f"replies-{self._settings.instance}",
            enable_auto_commit=False,
            auto_offset_reset="latest",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=4_194_304,
        )
        where = TopicPartition(REPLIES, self.partition)
        consumer.assign([where])
        await consumer.start()
        await consumer.seek_to_end(where)
        await consumer.position(where)
        self._consumer = consumer
        self._task = asyncio.create_task(self._listen(consumer))

    async def stop(self) -> None:
        """Stop listening; whoever still waits is cancelled and asks for the stored result."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._consumer is not None:
            await self._consumer.stop()
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()

    @property
    def listening(self) -> bool:
        """Whether replies can arrive."""
        return self._task is not None and not self._task.done()

    def expect(self, command_id: str) -> asyncio.Future[CommandResult]:
        """A future of the answer. Register before producing; :meth:`forget` when no longer interested.

        Two requests with the same idempotency key share one future.
        """
        future = self._waiting.get(command_id)
        if future is None or future.done():
            future = asyncio.get_running_loop().create_future()
            self._waiting[command_id] = future
        return future

    def __len__(self) -> int:
        return len(self._waiting)

    def forget(self, command_id: str) -> None:
        """Drop the future of a command."""
        self._waiting.pop(command_id, None)

    async def _listen(self, consumer: AIOKafkaConsumer[bytes, bytes]) -> None:
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            for records in batches.values():
                for record in records:
                    self._deliver(record.value or b"")

    def _deliver(self, value: bytes) -> None:
        try:
            bodies = orjson.loads(value)["results"]
        except (ValueError, KeyError, TypeError) as error:
            log.warning("unreadable reply ignored", error=str(error))
            return
        waiting = self._waiting
        for body in bodies:
            future = waiting.pop(body["command_id"], None)
            if future is not None and not future.done():
                future.set_result(CommandResult.model_construct(**body))
