"""Replies: hints on ``nexafi.replies`` that make waiting for a command quick. The stored result is the truth.

A writer packs the answers of one batch for one gateway partition into one record. A gateway reads its
partition from its end, without a group, and ignores answers to commands that are not its own.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, Protocol

import orjson
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from xxhash import xxh64_intdigest

from events.topics import REPLIES
from nexafi.settings import Settings
from schemas.common.outcomes import CommandResult

log = structlog.get_logger(__name__)


#: Answers in one record: it stays well below the topic's limit.
_RECORD_ANSWERS: Final = 2_000


class Sink(Protocol):
    """Who waits for answers under one id."""

    def answered(self, body: dict[str, Any]) -> bool:
        """Take a reply: of a command (:class:`CommandResult`) or of items (:class:`BulkResults`); ``True``: that was all."""


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
            record: list[dict[str, Any]] = []
            count = 0
            for body in bodies:
                record.append(body)
                count += len(body.get("items", (0,)))
                if count >= _RECORD_ANSWERS:
                    await self._producer.send(REPLIES, orjson.dumps({"results": record}), partition=partition)
                    record, count = [], 0
            if record:
                await self._producer.send(REPLIES, orjson.dumps({"results": record}), partition=partition)
        except Exception as error:  # noqa: BLE001 -- a hint: whoever waits will ask for the stored result
            log.warning("reply not sent", partition=partition, count=len(bodies), error=str(error))


class _Promise:
    """A sink that fulfils a future."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[CommandResult]) -> None:
        self.future = future

    def answered(self, body: dict[str, Any]) -> bool:
        if not self.future.done():
            self.future.set_result(result_of(body))
        return True


class ReplyListener:
    """The gateway's side: who waits, by command id."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.partition = xxh64_intdigest(settings.instance.encode()) % settings.reply_partitions
        self._waiting: dict[str, Sink] = {}
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
            fetch_max_wait_ms=500,
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
        """Stop listening; whoever still waits asks for the stored result when his time is up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._consumer is not None:
            await self._consumer.stop()
        for sink in self._waiting.values():
            if isinstance(sink, _Promise):
                sink.future.cancel()
        self._waiting.clear()

    @property
    def listening(self) -> bool:
        """Whether replies can arrive."""
        return self._task is not None and not self._task.done()

    def register(self, command_id: str, sink: Sink) -> None:
        """Hand ``sink`` the answers to a command (or bulk record). Before it is produced; :meth:`forget` ends it."""
        self._waiting[command_id] = sink

    def expect(self, command_id: str) -> asyncio.Future[CommandResult]:
        """A future of the answer. Register before producing; :meth:`forget` when no longer interested.

        Two requests with the same idempotency key share one future.
        """
        sink = self._waiting.get(command_id)
        if isinstance(sink, _Promise) and not sink.future.done():
            return sink.future
        promise = _Promise(asyncio.get_running_loop().create_future())
        self._waiting[command_id] = promise
        return promise.future

    def __len__(self) -> int:
        return len(self._waiting)

    def forget(self, command_id: str) -> None:
        """No longer hand over the answers to a command."""
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
            identifier = body["command_id"]
            sink = waiting.get(identifier)
            if sink is not None and sink.answered(body):
                waiting.pop(identifier, None)


#: Replies come from our own writers, in the order of the model's fields.
result_of: Final = CommandResult.maker()
