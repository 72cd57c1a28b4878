"""The router: copies events that concern a saga to the saga's own topic, as commands. It keeps nothing.

At least once: offsets are committed after Kafka has acknowledged the copies. A repeat has the same command id
(``uuid5(saga id, event id)``), so the saga's writer answers it without deciding again.

In order: the copies of one source partition are sent in its order by one idempotent producer, so a saga hears
the events of one shard as they happened, also when two routers overlap for a moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import structlog
from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    TopicPartition,
)
from aiokafka.errors import KafkaError

from events.producer import new_producer
from events.topics import commands_topic, events_topic
from events.watchdog import Watchdog
from nexafi.role import RoleContext
from nexafi.telemetry import SAGA_AGE
from sagas.routing import Routed, route
from schemas.common.envelope import MalformedEnvelopeError, micros

log = structlog.get_logger(__name__)
SERVICES: Final = ("payments", "ledger", "compliance", "ai")
GROUP: Final = "nexafi.saga-router"
MAX_RECORDS: Final = 2_000
#: Offsets are committed this often and when a partition is given up; a crash repeats what was routed since.
COMMIT_EVERY_S: Final = 0.5
RETRY_S: Final = 1.0
_SAGA: Final = "payment-saga"
_ENDS: Final = {
    b"payments.payment-settled.v1": "settled",
    b"payments.payment-failed.v1": "failed",
}
Record: TypeAlias = ConsumerRecord[bytes, bytes]


class Router(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One member of the group."""

    def __init__(self, ctx: RoleContext) -> None:
        self.ctx = ctx
        self.forwarded = 0
        self._shards = ctx.settings.shard_count(_SAGA)
        self._topic = commands_topic(_SAGA)
        self._acknowledged: dict[TopicPartition, int] = {}
        self._committed_at = 0.0
        self._watchdog = Watchdog("saga-router", ctx.health)
        self._consumer: AIOKafkaConsumer[bytes, bytes]
        self._producer: AIOKafkaProducer

    async def run(self) -> None:
        """Route until stopped; after an error start again from the committed offsets."""
        health = self.ctx.health
        health.expect("saga-router")
        while not self.ctx.stop.is_set():
            try:
                await self._live()
            except (KafkaError, OSError) as error:
                health.bad("saga-router", f"{type(error).__name__}: {error}")
                log.warning("router starts again", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _live(self) -> None:
        # A new producer each time: none of its predecessor's records may come after ours.
        self._producer = new_producer(self.ctx.settings, "saga-router")
        self._consumer = self._new_consumer()
        self._acknowledged = {}
        try:
            await self._producer.start()
            await self._consumer.start()
            self._consumer.subscribe([events_topic(s) for s in SERVICES], listener=self)
            self.ctx.health.ok("saga-router")
            while not self.ctx.stop.is_set():
                await self._turn()
            await self._commit()
        finally:
            await self._consumer.stop()
            await self._producer.stop()

    def _new_consumer(self) -> AIOKafkaConsumer[bytes, bytes]:
        settings = self.ctx.settings
        return AIOKafkaConsumer(
            bootstrap_servers=settings.kafka,
            client_id=f"saga-router-{settings.instance}",
            group_id=GROUP,
            group_instance_id=f"saga-router-{settings.instance}",
            session_timeout_ms=6000,
            heartbeat_interval_ms=1000,
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # a new group must see every payment there ever was
            isolation_level="read_committed",
            fetch_max_wait_ms=500,
        )

    async def _turn(self) -> None:
        batches: Mapping[TopicPartition, Sequence[Record]] = await self._consumer.getmany(
            timeout_ms=250, max_records=MAX_RECORDS
        )
        if batches:
            await self._forward(record for records in batches.values() for record in records)
            for partition, records in batches.items():
                self._acknowledged[partition] = records[-1].offset + 1
            self._watchdog.progress()
        elif self._watchdog.stuck(await self._waiting()):
            raise KafkaError("records wait and the consumer does not bring them")
        if time.monotonic() - self._committed_at >= COMMIT_EVERY_S:
            await self._commit()

    async def _forward(self, records: Iterable[Record]) -> None:
        """Send the copies in order; return when Kafka has all of them."""
        producer, builders, deliveries = self._producer, dict[int, Any](), list[Any]()
        for record in records:
            routed = self._routed(record)
            if routed is None:
                continue
            shard = routed.shard
            if shard not in builders:
                builders[shard] = producer.create_batch()
            while not _append(builders[shard], routed):
                full = builders[shard]
                if full.record_count() == 0:
                    raise KafkaError(f"event for {routed.command_id} is larger than a batch may be")
                full.close()
                deliveries.append(await producer.send_batch(full, self._topic, partition=shard))
                builders[shard] = producer.create_batch()
            self.forwarded += 1
        for shard, builder in builders.items():
            builder.close()
            deliveries.append(await producer.send_batch(builder, self._topic, partition=shard))
        for delivery in deliveries:
            await delivery

    def _routed(self, record: Record) -> Routed | None:
        headers = cast("list[tuple[str, bytes]]", record.headers)
        try:
            routed = route(headers, record.value or b"", record.topic.removesuffix(".events"), self._shards)
        except MalformedEnvelopeError as error:
            # Nothing but a relay writes these topics. Passing over it is loud, and stops nobody else's saga.
            log.error("event can not be routed", topic=record.topic, offset=record.offset, error=str(error))
            self.ctx.health.details["saga-router/unreadable"] = f"{record.topic}@{record.offset}: {error}"
            return None
        if routed is not None:
            _measure(headers)
        return routed

    async def _waiting(self) -> dict[TopicPartition, tuple[int, int]]:
        consumer = self._consumer
        return {p: (await consumer.position(p), consumer.highwater(p) or 0) for p in consumer.assignment()}

    async def _commit(self) -> None:
        self._committed_at = time.monotonic()
        if self._acknowledged:
            done, self._acknowledged = self._acknowledged, {}
            await self._consumer.commit(done)

    # ------------------------------------------------------------------ rebalances

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """What is acknowledged is committed before another member begins."""
        given_up = set(revoked)
        mine = {p: offset for p, offset in self._acknowledged.items() if p in given_up}
        if not mine:
            return
        try:
            await self._consumer.commit(mine)
        except KafkaError as error:
            log.warning("offsets not committed: the next member repeats some events", error=str(error))
        self._acknowledged = {p: o for p, o in self._acknowledged.items() if p not in mine}

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Nothing to prepare: the group's offsets say where to go on."""
        log.info("router has partitions", partitions=len(list(assigned)))


def _append(builder: Any, routed: Routed) -> bool:
    key = routed.command_id.encode()
    appended = builder.append(timestamp=None, key=key, value=routed.value, headers=routed.headers)
    return appended is not None


def _measure(headers: Sequence[tuple[str, bytes]]) -> None:
    """Age of a payment at its end; its id says when it began."""
    h = dict(headers)
    outcome = _ENDS.get(h["ce_type"])
    if outcome is not None:
        began_ms = int(h["ce_subject"][:8] + h["ce_subject"][9:13], 16)
        SAGA_AGE.record((micros(h["ce_time"].decode()) / 1000 - began_ms) / 1000, {"outcome": outcome})
