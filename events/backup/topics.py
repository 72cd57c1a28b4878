"""What Kafka still has of a shard: its commands after the backup, and its events as they were published."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import orjson
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from events.backup.manifest import BackupError
from events.backup.past import BrokenTopicError, PastEvent
from events.chain import event_id
from events.relay import from_row
from events.store import reading
from events.store.heads import Head
from events.store.recorder import ShardRecorder
from events.subscription import RawEvent
from events.topics import REPLIES, commands_topic, events_topic
from nexafi.ids import is_uuid
from nexafi.settings import Settings
from schemas.common.outcomes import Bulk

log = structlog.get_logger(__name__)
MAX_RECORDS: Final = 2_000
_EMPTY_POLL_MS: Final = 1_000
#: Services other than ledger and payments may forget answers after 90 days: an older command proves nothing by its absence.
_ANSWERS_KEPT_MS: Final = 80 * 24 * 3600 * 1000

Record: TypeAlias = ConsumerRecord[bytes, bytes]


class TopicReader:
    """One consumer that reads ranges of partitions, one after another."""

    def __init__(self, settings: Settings) -> None:
        self._consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka,
            client_id="nexafi-restore",
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=8 * 1024 * 1024,
        )

    async def __aenter__(self) -> TopicReader:
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """First and end offset."""
        where = TopicPartition(topic, partition)
        first = await self._consumer.beginning_offsets([where])
        end = await self._consumer.end_offsets([where])
        return first[where], end[where]

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int | None:
        """The first offset whose record is not older than ``time_ms``."""
        where = TopicPartition(topic, partition)
        found = (await self._consumer.offsets_for_times({where: time_ms}))[where]
        return None if found is None else int(found.offset)

    async def records(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[list[Record]]:
        """Records with ``start <= offset < end``."""
        if start >= end:
            return
        where, consumer = TopicPartition(topic, partition), self._consumer
        consumer.assign([where])
        consumer.seek(where, start)
        while await consumer.position(where) < end:
            for records in (
                await consumer.getmany(timeout_ms=_EMPTY_POLL_MS, max_records=MAX_RECORDS)
            ).values():
                inside = [r for r in records if r.offset < end]
                if inside:
                    yield inside


@dataclass
class Published:
    """What ``<service>.events`` has of a shard, seen from the head of a backup.

    ``anchored``: the topic has the backup's last event, so what follows it there is the rest of the same history.
    ``histories`` are those that follow, each with the position from which it counts; a later one (of an earlier
    restore) supersedes the rest of the one before it.
    """

    start: int
    end: int
    anchored: bool = False
    last: int = 0
    histories: list[tuple[str, int]] = field(default_factory=list)
    #: Why nothing after ``last`` can be taken back, in words.
    problem: str = ""
    #: Without an anchor: up to here the topic and the store agree.
    agrees_to: int = 0

    def counts(self, history: str, position: int) -> bool:
        """Whether the event is one that was not superseded."""
        for index, (name, first) in enumerate(self.histories):
            if name == history:
                after = self.histories[index + 1][1] if index + 1 < len(self.histories) else self.last + 1
                return first <= position < after
        return False


async def scan_events(reader: TopicReader, recorder: ShardRecorder, head: Head) -> Published:
    """Look at the headers of everything that was published since the backup."""
    topic, last = events_topic(recorder.service), head.next_position - 1
    first, end = await reader.bounds(topic, head.shard)
    start = first
    if last:
        start = await reader.offset_at(topic, head.shard, head.last_time_us // 1000) or first
    found = Published(start, end, last=last)
    scan = _Scan(found, last, _id_at(recorder, head.shard, last))
    async for records in reader.records(topic, head.shard, start, end):
        for record in records:
            scan.see(RawEvent(record))
    found.anchored = scan.anchored
    if last and not scan.anchored:
        found.histories, found.last = [], last
        found.agrees_to = await _agreement(reader, recorder, head, first, end)
    return found


class _Scan:
    """Follows histories through a partition, as every consumer does."""

    def __init__(self, found: Published, last: int, last_id: str) -> None:
        self._found = found
        self._floor = last
        self._floor_id = last_id
        self._ids: dict[int, str] = {}
        self._superseded: set[str] = set()
        self.anchored = False

    def see(self, event: RawEvent) -> None:
        found, history, position = self._found, event.history, event.position
        if position <= self._floor:
            if position == self._floor and event.text("ce_id") == self._floor_id:
                self.anchored = True
            return
        if history in self._superseded or found.problem:
            return
        current = found.histories[-1][0] if found.histories else None
        if history == current and position <= found.last:
            return  # sent again
        if position > found.last + 1:
            found.problem = (
                f"{event.record.topic}[{event.shard}] offset {event.offset}: event {found.last + 1} is missing, "
                f"event {position} follows {found.last}"
            )
            return
        if history != current:
            if current is not None:
                self._superseded.add(current)
            while found.histories and found.histories[-1][1] >= position:
                found.histories.pop()
            found.histories.append((history, position))
        found.last = position


def _id_at(recorder: ShardRecorder, shard: int, position: int) -> str:
    """Id of a stored event."""
    if position == 0:
        return ""
    for rows in reading.tail(recorder, shard, position - 1, upto=position):
        return event_id(from_row(rows[0]).leaf)
    raise BackupError(f"{recorder.service}/{shard} has no event {position}")


async def _agreement(reader: TopicReader, recorder: ShardRecorder, head: Head, first: int, end: int) -> int:
    """The topic does not have the backup's last event: the position up to which it has the same history, or 0."""
    if first > 0 or first == end:
        return 0
    agreed = 0
    async for records in reader.records(events_topic(recorder.service), head.shard, first, end):
        for record in records:
            event = RawEvent(record)
            if event.position == agreed + 1 and event.position < head.next_position:
                agreed += 1
                newest = event
    if agreed and newest.text("ce_id") != _id_at(recorder, head.shard, agreed):
        return 0
    return agreed


async def read_past(
    reader: TopicReader, service: str, shard: int, published: Published, after: int
) -> AsyncIterator[PastEvent]:
    """The committed events above ``after``, each once, in order; :class:`BrokenTopicError` where they break off."""
    expected = after + 1
    async for records in reader.records(events_topic(service), shard, published.start, published.end):
        for record in records:
            raw = RawEvent(record)
            if raw.position == expected and published.counts(raw.history, expected):
                yield PastEvent.of(record)
                expected += 1
    if published.problem:
        raise BrokenTopicError(published.problem)
    if expected != published.last + 1:
        raise BackupError(f"{events_topic(service)}[{shard}] changed while it was read: no event {expected}")


async def commands_start(reader: TopicReader, recorder: ShardRecorder, head: Head) -> tuple[int, int, str]:
    """Where the shard's commands go on: offset, end of the topic, and what is wrong with the topic in words."""
    topic = commands_topic(recorder.service)
    first, end = await reader.bounds(topic, head.shard)
    where = f"{topic}[{head.shard}]"
    if end < head.next_offset:
        return (
            first,
            end,
            f"{where} ends at {end}, below offset {head.next_offset} of the backup: not the same topic",
        )
    if first > head.next_offset:
        return (
            first,
            end,
            f"{where} begins at {first}: {first - head.next_offset} commands after the backup are gone",
        )
    if head.next_offset > first:
        async for records in reader.records(topic, head.shard, head.next_offset - 1, head.next_offset):
            old = time.time() * 1000 - records[0].timestamp > _ANSWERS_KEPT_MS
            if not old and not _decided(recorder, records[0]):
                return first, end, f"{where} does not have the last command of the backup: not the same topic"
    return head.next_offset, end, ""


def _decided(recorder: ShardRecorder, record: Record) -> bool:
    """Whether the store knows the record: as an answer or as a dead letter."""
    headers = dict(record.headers)
    identifier = headers.get("ce_id", b"").decode("utf-8", "replace")
    if headers.get("ce_type") == Bulk.TYPE.encode():
        try:
            identifier = str(orjson.loads(record.value or b"")["items"][-1]["id"])
        except (ValueError, LookupError, TypeError):
            identifier = ""
    command = identifier if is_uuid(identifier) else None
    with recorder.connection() as conn:
        row = conn.execute(
            f'SELECT EXISTS (SELECT 1 FROM "{recorder.schema}".command_results WHERE command_id = %s::uuid) OR EXISTS '
            f'(SELECT 1 FROM "{recorder.schema}".dead_letters WHERE topic = %s AND partition = %s AND record_offset = %s)',
            (command, record.topic, record.partition, record.offset),
        ).fetchone()
    return row is not None and bool(row[0])


async def read_replies(
    reader: TopicReader, settings: Settings, since_ms: int, wanted: dict[tuple[str, int], tuple[int, int]]
) -> dict[tuple[str, int], dict[str, dict[str, Any]]]:
    """Answers given since the backup, by shard and command id.

    ``wanted``: shard -> (position of the backup, last published position). Kept are refusals above the first, which
    no event tells of, and everything above the second: commits that the relay had not sent yet. Replies live for
    ten minutes; of a disaster that is looked at later there may be none.
    """
    out: dict[tuple[str, int], dict[str, dict[str, Any]]] = {key: {} for key in wanted}
    for partition in range(settings.reply_partitions):
        _, end = await reader.bounds(REPLIES, partition)
        start = await reader.offset_at(REPLIES, partition, since_ms)
        if start is None:
            continue
        async for records in reader.records(REPLIES, partition, start, end):
            for record in records:
                for body in orjson.loads(record.value or b"{}").get("results", []):
                    key = (body.get("service"), body.get("shard"))
                    if key not in wanted or body["conflict"] or body["outcome"] == "failed":
                        continue
                    backup, published = wanted[key]
                    if body["position"] >= (backup if body["outcome"] == "rejected" else published):
                        out[key][body["command_id"]] = body
    return out
