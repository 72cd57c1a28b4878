"""Reading ``<service>.events`` from chosen offsets, without a consumer group.

Projections, the SSE hub and the saga router keep their own marks, so none of them wants a group's offsets.
An :class:`EventStream` assigns all partitions of the services it is given, starts where its owner says, and
yields records whose headers are parsed only as far as they are asked for: an event that is dropped costs two
header look-ups, not an envelope of fifteen fields.

aiokafka can get stuck after a broker restart. The stream therefore watches itself: records that wait in Kafka
while none arrives for ``stall_s`` show in health, and the consumer is made anew at the same offsets.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from events.topics import events_topic
from nexafi.role import Health
from nexafi.settings import Settings
from schemas.common.envelope import EventEnvelope, MalformedEnvelopeError

log = structlog.get_logger(__name__)

#: (service, shard); the shard is the partition of the service's topic.
Source: TypeAlias = tuple[str, int]
#: A Kafka offset, or an end of the partition.
Start: TypeAlias = int | Literal["beginning", "end"]

MAX_RECORDS: Final = 2_000
STALL_S: Final = 20.0
_WATCH_EVERY_S: Final = 2.0
_RETRY_FIRST_S: Final = 0.2
_RETRY_MAX_S: Final = 5.0
_OFFSETS_TIMEOUT_S: Final = 10.0
_STOP_TIMEOUT_S: Final = 5.0


class RawEvent:
    """A record of an events topic; ``headers`` are a dictionary as soon as one is asked for."""

    __slots__ = ("_headers", "record")

    def __init__(self, record: ConsumerRecord[bytes, bytes]) -> None:
        self.record = record
        self._headers: dict[str, bytes] | None = None

    @property
    def headers(self) -> dict[str, bytes]:
        """All headers, undecoded."""
        found = self._headers
        if found is None:
            found = self._headers = dict(self.record.headers)
        return found

    def text(self, name: str) -> str:
        """A required header; :class:`MalformedEnvelopeError` when it is absent or not UTF-8."""
        try:
            return self.headers[name].decode()
        except KeyError:
            raise MalformedEnvelopeError(f"header {name} is missing") from None
        except UnicodeDecodeError as error:
            raise MalformedEnvelopeError(f"header {name} is not UTF-8") from error

    @property
    def position(self) -> int:
        """Gapless position in the shard's history, from 1."""
        try:
            return int(self.headers["ce_position"])
        except KeyError:
            raise MalformedEnvelopeError("header ce_position is missing") from None
        except ValueError as error:
            raise MalformedEnvelopeError(f"header can not be read: {error}") from error

    @property
    def history(self) -> str:
        """UUID of the history that the position counts in; it changes when a store is restored."""
        return self.text("ce_history")

    @property
    def type(self) -> str:
        """CloudEvents type."""
        return self.text("ce_type")

    @property
    def tenant(self) -> str:
        """Tenant."""
        return self.text("ce_tenant")

    @property
    def shard(self) -> int:
        """Partition of the record, which is the shard."""
        return int(self.record.partition)

    @property
    def offset(self) -> int:
        """Kafka offset of the record."""
        return int(self.record.offset)

    @property
    def value(self) -> bytes:
        """JSON bytes of the event's data."""
        value: bytes | None = self.record.value
        if value is None:
            raise MalformedEnvelopeError("an event without data")
        return value

    def envelope(self) -> EventEnvelope:
        """The whole envelope, for who needs all of it."""
        return EventEnvelope.read(self.record.headers)


class Batch(NamedTuple):
    """Records of one shard in order. ``next_offset`` is where reading goes on after them."""

    service: str
    shard: int
    events: list[RawEvent]
    next_offset: int

    @property
    def source(self) -> Source:
        """(service, shard)."""
        return self.service, self.shard


class EventStream:
    """All shards of some services' events, read from given offsets.

    ``starts`` maps a source to its first offset (default ``default_start``). An offset that Kafka does not
    have any more, or not yet, is replaced by the beginning: positions decide what is new, offsets only where
    to look, and a reader that keeps positions finds out by itself when something is missing.
    ``name`` is the condition in ``health``. After a poll that brought little the next one comes no sooner than
    ``pace_s``: what arrives after a pause is had at once, and a trickle is had in batches instead of one by one.
    """

    def __init__(
        self,
        settings: Settings,
        services: Sequence[str],
        health: Health,
        *,
        name: str,
        starts: Mapping[Source, Start] | None = None,
        default_start: Start = "beginning",
        max_records: int = MAX_RECORDS,
        stall_s: float = STALL_S,
        pace_s: float = 0.0,
    ) -> None:
        self._settings = settings
        self._pace_s = pace_s
        self._not_before = 0.0
        self._health = health
        self._condition = f"{name}/stream"
        self._name = name
        self._max_records = max_records
        self._stall_s = stall_s
        self._service_of = {events_topic(service): service for service in services}
        self.sources: list[Source] = [
            (service, shard) for service in services for shard in range(settings.shard_count(service))
        ]
        self._starts: dict[Source, Start] = dict.fromkeys(self.sources, default_start) | dict(starts or {})
        self._next: dict[Source, int] = {}
        self._starved_s: dict[Source, float] = dict.fromkeys(self.sources, 0.0)
        self._paused: set[Source] = set()
        self._consumer: AIOKafkaConsumer[bytes, bytes] | None = None
        self._rebuild_because: str | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopped = False
        self.rebuilds = 0
        self.ends: dict[Source, int] = {}

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Connect, and wait for as long as Kafka does not answer (health says so)."""
        self._health.expect(self._condition)
        await self._connect()
        self._watch = asyncio.create_task(self._watch_forever(), name=f"watch {self._name}")

    async def stop(self) -> None:
        """Leave Kafka. Safe to call twice."""
        self._stopped = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        await self._disconnect()

    async def __aenter__(self) -> EventStream:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # ------------------------------------------------------------------ reading

    async def poll(self, wait_ms: int = 200) -> list[Batch]:
        """What has arrived, at most ``max_records``, grouped by shard; empty after ``wait_ms`` without a record."""
        if self._rebuild_because is not None or self._consumer is None:
            await self._rebuild()
        assert self._consumer is not None
        began = time.monotonic()
        if began < self._not_before:
            await asyncio.sleep(self._not_before - began)
        try:
            got = await self._consumer.getmany(timeout_ms=wait_ms, max_records=self._max_records)
        except OffsetOutOfRangeError as error:
            for source in [self._source(tp) for tp in error.args[0]]:
                log.warning("offset is out of range, reading from the beginning", source=source)
                self._starts[source] = "beginning"
                self._next.pop(source, None)
            self._rebuild_because = "an offset is out of range"
            return []
        except KafkaError as error:
            self._rebuild_because = f"{type(error).__name__}: {error}"
            self._health.bad(self._condition, self._rebuild_because)
            return []
        waited = time.monotonic() - began
        for source in self._starved_s:
            self._starved_s[source] += waited
        if 0 < sum(map(len, got.values())) < self._max_records // 8:
            self._not_before = began + waited + self._pace_s
        return [self._batch(tp, records) for tp, records in got.items() if records]

    async def batches(self, stop: asyncio.Event, wait_ms: int = 200) -> AsyncIterator[list[Batch]]:
        """Non-empty polls until ``stop`` is set."""
        while not stop.is_set():
            polled = await self.poll(wait_ms)
            if polled:
                yield polled

    def _batch(self, partition: TopicPartition, records: list[ConsumerRecord[bytes, bytes]]) -> Batch:
        source = self._source(partition)
        following = records[-1].offset + 1
        self._next[source] = following
        self._starved_s[source] = 0.0
        return Batch(source[0], source[1], [RawEvent(r) for r in records], following)

    def seek(self, source: Source, offset: Start) -> None:
        """Read ``source`` from ``offset`` next; takes effect with the next poll."""
        if isinstance(offset, int) and self._consumer is not None:
            self._consumer.seek(self._partition(source), offset)
            self._next[source] = offset
            return
        self._starts[source] = offset
        self._next.pop(source, None)
        if self._consumer is not None:
            self._rebuild_because = self._rebuild_because or "seek"

    def pause(self, *sources: Source) -> None:
        """Deliver nothing of these until :meth:`resume`."""
        self._paused.update(sources)
        if self._consumer is not None:
            self._consumer.pause(*(self._partition(s) for s in sources))

    def resume(self, *sources: Source) -> None:
        """Deliver these again."""
        self._paused.difference_update(sources)
        for source in sources:
            self._starved_s[source] = 0.0
        if self._consumer is not None:
            self._consumer.resume(*(self._partition(s) for s in sources))

    def next_offset(self, source: Source) -> int:
        """Offset of the next record of ``source`` that a poll will return."""
        return self._next[source]

    async def refresh_ends(self) -> dict[Source, int]:
        """Ask Kafka for the end offsets now; also kept in :attr:`ends` by the watchdog."""
        assert self._consumer is not None, "not started"
        partitions = [self._partition(s) for s in self.sources]
        async with asyncio.timeout(_OFFSETS_TIMEOUT_S):
            found = await self._consumer.end_offsets(partitions)
        self.ends = {self._source(tp): offset for tp, offset in found.items()}
        return self.ends

    def lag(self) -> dict[Source, int]:
        """Records between what was delivered and the ends last seen."""
        return {s: max(0, end - self._next.get(s, 0)) for s, end in self.ends.items()}

    # ------------------------------------------------------------------ connecting

    def _source(self, partition: TopicPartition) -> Source:
        return self._service_of[partition.topic], partition.partition

    @staticmethod
    def _partition(source: Source) -> TopicPartition:
        return TopicPartition(events_topic(source[0]), source[1])

    async def _connect(self) -> None:
        """Make a consumer that stands at our offsets; tries until it succeeds or the stream is stopped."""
        delay_s = _RETRY_FIRST_S
        while not self._stopped:
            try:
                async with asyncio.timeout(_OFFSETS_TIMEOUT_S * 2):
                    self._consumer = await self._open()
            except (KafkaError, TimeoutError, OSError) as error:
                self._health.bad(self._condition, f"Kafka does not answer: {type(error).__name__}: {error}")
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _RETRY_MAX_S)
            else:
                self._health.ok(self._condition)
                return
        raise asyncio.CancelledError

    async def _open(self) -> AIOKafkaConsumer[bytes, bytes]:
        consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
            bootstrap_servers=self._settings.kafka,
            client_id=f"{self._name}-{self._settings.instance}",
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=500,
            max_partition_fetch_bytes=4 * 1024 * 1024,
            metadata_max_age_ms=30_000,
        )
        try:
            await consumer.start()
            partitions = [self._partition(s) for s in self.sources]
            consumer.assign(partitions)
            first = await consumer.beginning_offsets(partitions)
            end = await consumer.end_offsets(partitions)
            for partition in partitions:
                source = self._source(partition)
                offset = self._offset(source, first[partition], end[partition])
                consumer.seek(partition, offset)
                self._next[source] = offset
            self.ends = {self._source(tp): offset for tp, offset in end.items()}
            if self._paused:
                consumer.pause(*(self._partition(s) for s in self._paused))
        except BaseException:
            await self._close(consumer)
            raise
        return consumer

    def _offset(self, source: Source, first: int, end: int) -> int:
        wanted: Start = self._next.get(source, self._starts[source])
        if wanted == "beginning":
            return first
        if wanted == "end":
            return end
        if first <= wanted <= end:
            return wanted
        log.warning(
            "offset is not in Kafka, reading from the beginning",
            source=source,
            offset=wanted,
            first=first,
            end=end,
        )
        return first

    async def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await self._close(consumer)

    @staticmethod
    async def _close(consumer: AIOKafkaConsumer[bytes, bytes]) -> None:
        """A stuck consumer may never stop; leaving it behind is better than waiting for it."""
        with contextlib.suppress(KafkaError, TimeoutError, OSError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await consumer.stop()

    async def _rebuild(self) -> None:
        why, self._rebuild_because = self._rebuild_because, None
        if why is not None and why != "seek":
            log.warning("consumer is made anew", stream=self._name, why=why)
        self.rebuilds += 1
        await self._disconnect()
        self._starved_s = dict.fromkeys(self.sources, 0.0)
        await self._connect()

    # ------------------------------------------------------------------ watching

    async def _watch_forever(self) -> None:
        while True:
            await asyncio.sleep(min(_WATCH_EVERY_S, self._stall_s / 2))
            if self._consumer is None or self._rebuild_because is not None:
                continue
            try:
                await self.refresh_ends()
            except (KafkaError, TimeoutError, OSError, AssertionError) as error:
                self._health.bad(self._condition, f"Kafka does not answer: {type(error).__name__}: {error}")
                continue
            self._judge(self._stalled())

    def _stalled(self) -> list[Source]:
        """Sources whose owner asked for ``stall_s`` and got nothing although records wait."""
        lag = self.lag()
        return [
            s
            for s in self.sources
            if s not in self._paused and lag.get(s, 0) > 0 and self._starved_s[s] > self._stall_s
        ]

    def _judge(self, stalled: Iterable[Source]) -> None:
        names = ", ".join(f"{service}/{shard}" for service, shard in stalled)
        if names:
            self._rebuild_because = f"records wait but none arrives: {names}"
            self._health.bad(self._condition, self._rebuild_because)
        elif self._rebuild_because is None:
            self._health.ok(self._condition)


def trace_parents(events: Iterable[RawEvent]) -> list[str]:
    """Trace parents of those events that carry one, for a batch's span links."""
    found = [e.headers.get("ce_traceparent") for e in events]
    return [value.decode("latin-1") for value in found if value]
