"""Producing to Kafka with the settings that money needs: acknowledged by all replicas, idempotent, in order."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from events.topics import commands_topic
from nexafi.settings import Settings
from schemas.common.envelope import CommandEnvelope


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


class CommandProducer:
    """Sends commands to the shard that must decide them."""

    def __init__(self, settings: Settings, *, client: str = "commands") -> None:
        self._producer = new_producer(settings, client)

    async def start(self) -> None:
        """Connect; raises aiokafka's ``KafkaConnectionError`` when no broker answers."""
        await self._producer.start()

    async def stop(self) -> None:
        """Flush and close."""
        await self._producer.stop()

    async def send(self, service: str, shard: int, envelope: CommandEnvelope, data: bytes) -> None:
        """Send one command; returns when Kafka has it for good."""
        await self.send_raw(service, shard, envelope.id.encode(), data, envelope.headers())

    async def send_raw(
        self, service: str, shard: int, key: bytes, data: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> None:
        """Send prepared headers and bytes; returns when Kafka has them for good."""
        delivery = await self._producer.send(
            commands_topic(service), data, key=key, partition=shard, headers=list[tuple[str, bytes]](headers)
        )
        await delivery
