"""Published events as the rows that they were: bytes, hashes and batches are the same again.

A record of ``<service>.events`` has everything that its row had. Its id is half of its leaf hash, so a row that is put
together from the record and does not hash to the record's id was not what was committed. All events of one batch
of a shard have its time, and no two batches of a shard have the same time, so batches are known as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from aiokafka import ConsumerRecord

from events.backup.manifest import BackupError
from events.chain import encode_row, event_id, leaf_hash
from events.decider import EventMeta
from schemas.common.envelope import EventEnvelope


class BrokenTopicError(BackupError):
    """An events topic does not say what was committed: an event is missing, or does not hash to its id."""


@dataclass(slots=True)
class PastEvent:
    """One committed event, read back from Kafka."""

    meta: EventMeta
    topic: str
    causation: str
    state: bytes
    row: bytes
    leaf: bytes

    @classmethod
    def of(cls, record: ConsumerRecord[bytes, bytes]) -> PastEvent:
        """The event of a record; :class:`BrokenTopicError` when it does not hash to its id."""
        e = EventEnvelope.read(record.headers)
        metadata: dict[str, Any] = {
            "time": e.time_us,
            "tenant": e.tenant,
            "actor": e.actor,
            "correlation": e.correlation_id,
            "causation": e.causation_id,
        }
        if e.saga_id:
            metadata["saga"] = e.saga_id
        if e.traceparent:
            metadata["trace"] = e.traceparent
        state = record.value or b""
        row = encode_row(
            e.shard,
            e.position,
            UUID(e.subject).bytes,
            e.stream_version,
            e.type.encode(),
            orjson.dumps(metadata),
            state,
        )
        leaf = leaf_hash(row)
        if event_id(leaf) != e.id or e.shard != record.partition:
            raise BrokenTopicError(
                f"{record.topic}[{record.partition}] offset {record.offset}: the event at position {e.position} "
                f"does not hash to its id {e.id}"
            )
        meta = EventMeta(
            e.subject,
            e.stream_version,
            e.time_us,
            e.tenant,
            e.actor,
            e.correlation_id,
            e.position,
            e.saga_id,
        )
        return cls(meta, e.type, e.causation_id, state, row, leaf)


def by_command(events: Iterable[PastEvent]) -> Iterator[list[PastEvent]]:
    """Runs of events with one cause."""
    run: list[PastEvent] = []
    for event in events:
        if run and run[0].causation != event.causation:
            yield run
            run = []
        run.append(event)
    if run:
        yield run
