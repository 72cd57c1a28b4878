"""The router: copies events that concern a saga to the saga's own topic, as commands. It keeps nothing.

At least once: offsets are committed after Kafka has acknowledged the copies. A repeat has the same command id
(``uuid5(saga id, event id)``), so the saga's writer answers it without deciding again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from pydantic_core import from_json, to_json

from events.producer import CommandProducer
from events.topics import events_topic
from nexafi.ids import derived_id, shard_of
from nexafi.role import RoleContext
from schemas.common.envelope import CommandEnvelope, EventEnvelope, MalformedEnvelopeError
from schemas.sagas.commands import ObserveEvent

log = structlog.get_logger(__name__)
SERVICES: Final = ("payments", "ledger", "compliance", "ai")
#: Events that concern a saga although no saga caused them; the payment is in their data.
UNASKED: Final = frozenset(
    {
        b"payments.payment-initiated.v1",
        b"payments.cancellation-requested.v1",
        b"payments.refund-requested.v1",
        b"compliance.case-decided.v1",
    }
)
_SAGA: Final = "payment-saga"
_RETRY_S: Final = 1.0


class Router:
    """One member of the group ``saga-router``."""

    def __init__(self, ctx: RoleContext) -> None:
        self.ctx = ctx
        self.forwarded = 0
        self._shards = ctx.settings.shard_count(_SAGA)
        self._producer = CommandProducer(ctx.settings, client="saga-router")

    async def run(self) -> None:
        """Route until stopped; start again from the committed offsets after an error."""
        health = self.ctx.health
        health.expect("saga-router")
        await self._producer.start()
        try:
            while not self.ctx.stop.is_set():
                try:
                    await self._consume()
                except (KafkaError, OSError) as error:
                    health.bad("saga-router", f"{type(error).__name__}: {error}")
                    log.warning("router starts again", error=str(error))
                    await asyncio.sleep(_RETRY_S)
        finally:
            await self._producer.stop()

    async def _consume(self) -> None:
        settings = self.ctx.settings
        consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
            *(events_topic(service) for service in SERVICES),
            bootstrap_servers=settings.kafka,
            client_id=f"saga-router-{settings.instance}",
            group_id="nexafi.saga-router",
            group_instance_id=f"saga-router-{settings.instance}",
            session_timeout_ms=6000,
            heartbeat_interval_ms=1000,
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # a new group must see every payment there ever was
            isolation_level="read_committed",
            fetch_max_wait_ms=100,
        )
        await consumer.start()
        self.ctx.health.ok("saga-router")
        try:
            while not self.ctx.stop.is_set():
                batches = await consumer.getmany(timeout_ms=250, max_records=2000)
                if not batches:
                    continue
                await self._forward(record for records in batches.values() for record in records)
                await consumer.commit()
        finally:
            await consumer.stop()

    async def _forward(self, records: Iterable[ConsumerRecord[bytes, bytes]]) -> None:
        sends = [send for record in records if (send := self._command(record)) is not None]
        # Sent in order, awaited together: records of one partition keep their order in the producer's queue.
        await asyncio.gather(
            *(self._producer.send(_SAGA, shard, envelope, data) for shard, envelope, data in sends)
        )
        self.forwarded += len(sends)

    def _command(self, record: ConsumerRecord[bytes, bytes]) -> tuple[int, CommandEnvelope, bytes] | None:
        headers = dict(record.headers)
        saga = headers.get("ce_sagaid", b"").decode()
        if not saga and headers.get("ce_type") not in UNASKED:
            return None
        try:
            envelope = EventEnvelope.read(record.headers)
            data: dict[str, Any] = from_json(record.value or b"")
            saga = saga or str(data["payment_id"])
            shard = shard_of(saga) % self._shards
        except (MalformedEnvelopeError, ValueError, KeyError) as error:
            # Nothing but the relay writes these topics; an unreadable record can not be anybody's saga.
            log.error("event can not be routed", topic=record.topic, offset=record.offset, error=str(error))
            return None
        service = record.topic.removesuffix(".events")
        observed = ObserveEvent(
            saga_id=saga,
            event_id=envelope.id,
            event_type=envelope.type,
            store=service,
            shard=envelope.shard,
            position=envelope.position,
            time_us=envelope.time_us,
            tenant=envelope.tenant,
            actor=envelope.actor,
            data=data,
        )
        command = CommandEnvelope(
            derived_id(saga, envelope.id),
            ObserveEvent.TYPE,
            envelope.tenant,
            "system:saga-router",
            correlation_id=envelope.correlation_id,
            saga_id=saga,
            traceparent=envelope.traceparent,
            time_us=envelope.time_us,
            source="nexafi/saga-router",
        )
        return shard, command, to_json(observed)
