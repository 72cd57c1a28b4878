"""Producing to Kafka with the settings that money needs: acknowledged by all replicas, idempotent, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from events.topics import commands_topic
from nexafi.settings import Settings
from schemas.common.envelope import CommandEnvelope

#: After this long without an acknowledgement the log counts as unreachable.
SEND_TIMEOUT_S: Final = 10.0


def new_producer(
    settings: Settings, client: str, *, linger_ms: int = 0, batch_bytes: int = 1_048_576
) -> AIOKafkaProducer:
    """A producer that does not lose or double a record while its process lives."""
    return AIOKafkaProducer(
        bootstrap_servers=settings.kafka,
        client_id=f"{client}-{settings.instance}",
        acks="all",  # aiokafka's default is 1
        enable_idempotence=True,  # and this is off
        linger_ms=linger_ms,
        max_batch_size=batch_bytes,
        max_request_size=4_194_304,
        request_timeout_ms=20_000,
        retry_backoff_ms=50,
    )


@dataclass(slots=True)
class _Batch:
    """Records of one partition that travel together; ``sent`` ends when Kafka has them, or never will."""

    builder: Any
    sent: asyncio.Future[None]


@dataclass(slots=True)
class _Lane:
    """One partition's queue. While a batch is on its way, the next one fills."""

    topic: str
    partition: int
    waiting: list[_Batch] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class CommandProducer:
    """Sends commands to the shard that must decide them.

    Commands of one partition that arrive while a batch is on its way share the next batch and its one
    acknowledgement; sending each by itself costs several times as much.
    """

    def __init__(self, settings: Settings, *, client: str = "commands") -> None:
        self._producer = new_producer(settings, client)
        self._lanes: dict[tuple[str, int], _Lane] = {}

    async def start(self) -> None:
        """Connect; raises aiokafka's ``KafkaConnectionError`` when no broker answers."""
        await self._producer.start()

    async def stop(self) -> None:
        """Send what waits, then close."""
        running = [lane.task for lane in self._lanes.values() if lane.task is not None]
        await asyncio.gather(*running, return_exceptions=True)
        await self._producer.stop()

    async def send(self, service: str, shard: int, envelope: CommandEnvelope, data: bytes) -> None:
        """Send one command; returns when Kafka has it for good."""
        await self.send_raw(service, shard, envelope.id.encode(), data, envelope.headers())

    async def send_raw(
        self, service: str, shard: int, key: bytes, data: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> None:
        """Send prepared headers and bytes; returns when Kafka has them for good."""
        await asyncio.shield(self.post(service, shard, key, data, headers))

    def post(
        self, service: str, shard: int, key: bytes, data: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> asyncio.Future[None]:
        """Send without waiting. The future is shared with other commands: never cancel it.

        It ends when Kafka has the command for good, or with a ``KafkaError``, an ``OSError``, or a
        ``TimeoutError`` after :data:`SEND_TIMEOUT_S`; then the command may have arrived all the same.
        """
        lane = self._lanes.get((service, shard))
        if lane is None:
            lane = self._lanes[service, shard] = _Lane(commands_topic(service), shard)
        batch = lane.waiting[-1] if lane.waiting else self._open(lane)
        while batch.builder.append(timestamp=None, key=key, value=data, headers=headers) is None:
            if batch.builder.record_count() == 0:
                lane.waiting.pop()
                raise MessageSizeTooLargeError(
                    f"a command of {len(data)} bytes is larger than a batch may be"
                )
            batch = self._open(lane)
        if lane.task is None:
            lane.task = asyncio.create_task(self._drain(lane))
        return batch.sent

    def _open(self, lane: _Lane) -> _Batch:
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sent.add_done_callback(_heard)
        batch = _Batch(self._producer.create_batch(), sent)
        lane.waiting.append(batch)
        return batch

    async def _drain(self, lane: _Lane) -> None:
        try:
            while lane.waiting:
                batch = lane.waiting.pop(0)
                batch.builder.close()
                try:
                    async with asyncio.timeout(SEND_TIMEOUT_S):
                        delivery = await self._producer.send_batch(
                            batch.builder, lane.topic, partition=lane.partition
                        )
                        await delivery
                except (KafkaError, TimeoutError, OSError) as error:
                    batch.sent.set_exception(error)
                except BaseException:
                    batch.sent.set_exception(KafkaError("the producer was stopped"))
                    raise
                else:
                    batch.sent.set_result(None)
        finally:
            lane.task = None
            for batch in lane.waiting:  # only when this task was ended from outside
                batch.sent.set_exception(KafkaError("the producer was stopped"))
            lane.waiting.clear()


def _heard(sent: asyncio.Future[None]) -> None:
    """Mark an error as seen: whoever waits hears of it, and it may be that nobody does."""
    if not sent.cancelled():
        sent.exception()
