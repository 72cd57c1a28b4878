"""From stored rows back to state: snapshot + tail, or full replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Generic, TypeVar

import orjson
import structlog
from pydantic_core import from_json

from events.decider import Decider, EventMeta
from events.errors import CorruptHistoryError
from events.store import reading
from events.store.heads import Head
from events.store.reading import StoredRow
from events.store.recorder import ShardRecorder
from events.upcasting import UPCASTERS
from schemas.common.base import Event
from schemas.common.outcomes import CommandRefused

S = TypeVar("S")
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Loaded(Generic[S]):
    """State of a shard and the position of the snapshot that it was built on (0 for none)."""

    state: S
    snapshot_position: int
    replayed: int


class EventDecoder(Generic[S]):
    """Turns stored rows into the domain's events; older versions are upcast on the way."""

    def __init__(self, decider: Decider[S]) -> None:
        self.service = decider.service
        self._refused = f"{decider.service}.{CommandRefused.TYPE}"
        self._validate: dict[str, Callable[[bytes], Event]] = {
            # ``from_json`` without its two Python frames: a replay spends most of its time here.
            t: partial(m.__pydantic_validator__.validate_json, extra="ignore")
            for t, m in decider.events.items()
        }
        self._models = decider.events

    def decode(self, topic: str, state: bytes) -> Event | None:
        """The event, or ``None`` for the engine's own events, which do not concern the domain."""
        validate = self._validate.get(topic)
        if validate is not None:
            return validate(state)
        if topic == self._refused:
            return None
        known, data = UPCASTERS.upcast(topic, from_json(state))
        if known in self._models:
            return self._models[known].model_validate(data, extra="ignore")
        raise CorruptHistoryError(f"{self.service}: stored event type {topic} is not known to this code")


def meta_of(row: StoredRow) -> EventMeta:
    """The part of a row's metadata that the domain may see."""
    m = orjson.loads(row.metadata)
    return EventMeta(
        str(row.originator_id),
        row.originator_version,
        m.get("time", 0),
        m.get("tenant", ""),
        m.get("actor", ""),
        m.get("correlation", ""),
        row.position,
        m.get("saga", ""),
    )


def apply_rows(
    decider: Decider[S], state: S, rows: Iterable[StoredRow], decoder: EventDecoder[S] | None = None
) -> S:
    """Evolve ``state`` over rows in order."""
    decoder = decoder or EventDecoder(decider)
    for row in rows:
        event = decoder.decode(row.topic, row.state)
        if event is not None:
            state = decider.evolve(state, event, meta_of(row))
    return state


def load_shard(
    recorder: ShardRecorder, decider: Decider[S], head: Head, *, use_snapshot: bool = True
) -> Loaded[S]:
    """The state at ``head``: the newest usable snapshot plus its tail. Invariants are checked before it is used."""
    last = head.next_position - 1
    state, position = decider.initial(head.shard), 0
    snapshot = (
        reading.latest_snapshot(recorder, head.shard, decider.state_version, last) if use_snapshot else None
    )
    if snapshot is not None:
        if sha256(bytes(snapshot.state)).digest() == bytes(snapshot.digest):
            state, position = decider.load(bytes(snapshot.state)), snapshot.position
        else:
            log.error(
                "snapshot does not match its digest; replaying", service=recorder.service, shard=head.shard
            )
    base, decoder = position, EventDecoder(decider)
    for rows in reading.tail(recorder, head.shard, position, upto=last):
        state = apply_rows(decider, state, rows, decoder)
        position = rows[-1].position
    if position != last:
        raise CorruptHistoryError(
            f"{recorder.service}/{head.shard}: history ends at {position}, its head says {last}"
        )
    decider.check(state)
    return Loaded(state, base, position - base)


def read_stream(recorder: ShardRecorder, decider: Decider[Any], stream: str) -> list[tuple[Event, EventMeta]]:
    """The committed events of one stream, decoded."""
    decoder = EventDecoder(decider)
    history = []
    for row in reading.streams(recorder, [stream])[stream]:
        event = decoder.decode(row.topic, row.state)
        if event is not None:
            history.append((event, meta_of(row)))
    return history
