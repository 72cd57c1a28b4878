"""The relay publishes a store's history to ``<service>.events``, in order of position, and alone does so.

It is fed in memory with what has just been committed; whenever that does not continue exactly where it
stands (a start, a send error, a flood), it reads the store instead. Its mark moves only when everything up
to it is acknowledged by Kafka, so a kill between sending and marking sends again and never skips. Consumers
drop what is not above the last ``(history, position)`` they saw.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from pydantic_core import from_json, to_json

from events.chain import encode_row, event_id, leaf_hash
from events.deciding import Outgoing
from events.failpoints import reach
from events.store import reading
from events.store.recorder import ShardRecorder
from events.topics import commands_topic, events_topic
from nexafi.role import Health
from schemas.common.envelope import CommandEnvelope, rfc3339
from schemas.common.outcomes import CommandIssued

log = structlog.get_logger(__name__)
#: Events held in memory for a shard before the relay falls back to reading the store.
MAX_QUEUED: Final = 50_000
CHUNK: Final = 2_000
RETRY_S: Final = 0.5
MARK_EVERY_S: Final = 0.2
_SPEC: Final = ("ce_specversion", b"1.0")
_JSON: Final = ("content-type", b"application/json")


@dataclass(slots=True)
class _Lane:
    """One shard's way to its partition."""

    shard: int
    history: str
    sent: int  # last position acknowledged by Kafka
    marked: int  # last position written as mark
    queue: list[Outgoing] = field(default_factory=list)
    last_committed: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Relay:
    """Publishes the shards that this process writes."""

    def __init__(self, recorder: ShardRecorder, producer: AIOKafkaProducer, health: Health) -> None:
        self.recorder = recorder
        self.service = recorder.service
        self.published = 0
        self._producer = producer
        self._health = health
        self._topic = events_topic(recorder.service)
        self._source = ("ce_source", f"nexafi/{recorder.service}".encode())
        self._issued = f"{recorder.service}.{CommandIssued.TYPE}"
        self._lanes: dict[int, _Lane] = {}
        self._marker: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ lanes

    async def open(self, shard: int, history: str, last_committed: int) -> None:
        """Begin to publish a shard that this process has just acquired."""
        await self.close([shard])
        marks = await asyncio.to_thread(reading.relay_marks, self.recorder)
        mark = marks.get(shard, 0)
        lane = _Lane(shard, history, mark, mark, last_committed=last_committed)
        lane.wake.set()
        lane.task = asyncio.create_task(self._run(lane))
        self._lanes[shard] = lane
        if self._marker is None:
            self._marker = asyncio.create_task(self._mark_forever())

    async def close(self, shards: Sequence[int]) -> None:
        """Stop publishing shards. What was not acknowledged is sent again by the next owner."""
        lanes = [self._lanes.pop(s) for s in shards if s in self._lanes]
        for lane in lanes:
            if lane.task is not None:
                lane.task.cancel()
                await asyncio.gather(lane.task, return_exceptions=True)
        await self._write_marks(lanes)

    async def stop(self, *, drain_s: float = 5.0) -> None:
        """Publish what is committed, bounded in time, then stop."""
        deadline = time.monotonic() + drain_s
        while self.lag and time.monotonic() < deadline:  # noqa: ASYNC110 -- lanes end one by one
            await asyncio.sleep(0.01)
        await self.close(list(self._lanes))
        if self._marker is not None:
            self._marker.cancel()
            await asyncio.gather(self._marker, return_exceptions=True)
            self._marker = None

    def offer(self, shard: int, outgoing: list[Outgoing]) -> None:
        """Hand over what was committed on a shard. Never blocks; a flood is read back from the store."""
        lane = self._lanes.get(shard)
        if lane is None:
            return
        lane.last_committed = outgoing[-1].position
        if len(lane.queue) + len(outgoing) <= MAX_QUEUED:
            lane.queue.extend(outgoing)
        lane.wake.set()

    def reach_for(self, shard: int, position: int) -> None:
        """``position`` is committed, whoever committed it: publish up to there, from the store."""
        lane = self._lanes.get(shard)
        if lane is not None and position > lane.last_committed:
            lane.last_committed = position
            lane.wake.set()

    @property
    def lag(self) -> int:
        """Committed events that Kafka has not acknowledged."""
        return sum(max(0, lane.last_committed - lane.sent) for lane in self._lanes.values())

    # ------------------------------------------------------------------ sending

    async def _run(self, lane: _Lane) -> None:
        name = f"{self.service}/{lane.shard}/relay"
        while True:
            try:
                await lane.wake.wait()
                lane.wake.clear()
                while lane.sent < lane.last_committed:
                    batch = await self._next(lane)
                    await self._send(lane, batch)
                    reach("publish")
                    lane.sent = batch[-1].position
                    self.published += len(batch)
                self._health.ok(name)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 -- whatever it was: nothing is marked, start again from the mark
                self._health.bad(name, f"publishing is held up: {type(error).__name__}: {error}")
                log.warning(
                    "relay starts again from what Kafka has",
                    service=self.service,
                    shard=lane.shard,
                    error=str(error),
                )
                lane.queue.clear()
                lane.wake.set()
                await asyncio.sleep(RETRY_S)

    async def _next(self, lane: _Lane) -> list[Outgoing]:
        queue = lane.queue
        if queue and queue[0].position == lane.sent + 1:
            batch, lane.queue = queue[:CHUNK], queue[CHUNK:]
            return batch
        lane.queue = (
            [o for o in queue if o.position > lane.sent] if queue and queue[-1].position > lane.sent else []
        )
        if lane.queue and lane.queue[0].position == lane.sent + 1:
            return await self._next(lane)
        return await asyncio.to_thread(self._read, lane.shard, lane.sent)

    def _read(self, shard: int, after: int) -> list[Outgoing]:
        for rows in reading.tail(self.recorder, shard, after, chunk=CHUNK):
            return [from_row(row) for row in rows]
        raise LookupError(f"no event after position {after} in the store")

    async def _send(self, lane: _Lane, batch: Sequence[Outgoing]) -> None:
        """Send a run of events and wait until Kafka has all of them.

        A part goes only when the one before it is acknowledged: if that failed and this did not, consumers would
        see a later position first and drop the earlier ones when they come.
        """
        producer, topic, shard = self._producer, self._topic, lane.shard
        builder = producer.create_batch()
        times: dict[int, bytes] = {}
        history, shard_bytes = lane.history.encode(), b"%d" % shard
        commands: list[Outgoing] = []
        for out in batch:
            time_us = out.time_us
            stamp = times.get(time_us)
            if stamp is None:
                stamp = times[time_us] = rfc3339(time_us).encode()
            headers = self._headers(out, stamp, history, shard_bytes)
            key = out.stream.encode()
            while (
                builder.append(timestamp=time_us // 1000, key=key, value=out.state, headers=headers) is None
            ):
                if builder.record_count() == 0:
                    raise KafkaError(f"event {out.position} is larger than a batch may be")
                builder.close()
                await (await producer.send_batch(builder, topic, partition=shard))
                builder = producer.create_batch()
            if out.topic == self._issued:
                commands.append(out)
        builder.close()
        deliveries = [await producer.send_batch(builder, topic, partition=shard)]
        deliveries.extend([await self.issue(out) for out in commands])
        for delivery in deliveries:
            await delivery

    def _headers(self, out: Outgoing, stamp: bytes, history: bytes, shard: bytes) -> list[tuple[str, bytes]]:
        headers = [
            _SPEC,
            ("ce_id", event_id(out.leaf).encode()),
            ("ce_type", out.topic.encode()),
            self._source,
            ("ce_subject", out.stream.encode()),
            ("ce_time", stamp),
            ("ce_tenant", out.tenant.encode()),
            ("ce_actor", out.actor.encode()),
            ("ce_history", history),
            ("ce_shard", shard),
            ("ce_position", b"%d" % out.position),
            ("ce_streamversion", b"%d" % out.version),
            ("ce_correlationid", out.correlation_id.encode()),
            ("ce_causationid", out.causation_id.encode()),
            _JSON,
        ]
        if out.traceparent:
            headers.append(("ce_traceparent", out.traceparent.encode()))
        if out.saga_id:
            headers.append(("ce_sagaid", out.saga_id.encode()))
        return headers

    async def issue(self, out: Outgoing) -> asyncio.Future[Any]:
        """Send the command inside a ``command-issued`` event. A replay never comes here."""
        issued: dict[str, Any] = from_json(out.state)  # amounts may exceed 64 bits
        envelope = CommandEnvelope(
            issued["command_id"],
            issued["command_type"],
            issued["tenant"],
            f"system:{self.service}",
            reply_to="saga",
            correlation_id=out.correlation_id,
            saga_id=issued["saga_id"],
            traceparent=out.traceparent,
            time_us=out.time_us,
            source=f"nexafi/{self.service}",
        )
        delivery: asyncio.Future[Any] = await self._producer.send(
            commands_topic(issued["target"]),
            to_json(issued["data"]),
            key=envelope.id.encode(),
            partition=issued["shard"],
            headers=envelope.headers(),
        )
        return delivery

    # ------------------------------------------------------------------ marks

    async def _mark_forever(self) -> None:
        while True:
            await asyncio.sleep(MARK_EVERY_S)
            try:
                await self._write_marks(list(self._lanes.values()))
            except Exception as error:  # noqa: BLE001 -- a mark that lags only means sending again after a crash
                log.warning("relay marks not written", service=self.service, error=str(error))

    async def _write_marks(self, lanes: Sequence[_Lane]) -> None:
        moved = {lane.shard: lane.sent for lane in lanes if lane.sent > lane.marked}
        if moved:
            reach("mark")
            await asyncio.to_thread(reading.save_relay_marks, self.recorder, moved)
            for lane in lanes:
                lane.marked = max(lane.marked, moved.get(lane.shard, 0))


def from_row(row: reading.StoredRow) -> Outgoing:
    """A stored event as it must look on Kafka; its id follows from its content."""
    m = orjson.loads(row.metadata)
    encoded = encode_row(
        row.shard,
        row.position,
        row.originator_id.bytes,
        row.originator_version,
        row.topic.encode(),
        bytes(row.metadata),
        bytes(row.state),
    )
    return Outgoing(
        row.position,
        str(row.originator_id),
        row.originator_version,
        row.topic,
        m.get("time", 0),
        m.get("tenant", ""),
        m.get("actor", ""),
        m.get("correlation", ""),
        m.get("causation", ""),
        m.get("trace", ""),
        m.get("saga", ""),
        bytes(row.state),
        leaf_hash(encoded),
    )
