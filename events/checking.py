"""The check of one shard's history, batch by batch: hashes, positions, versions, zero sums, state.

Nothing here reads anything: rows come from a store (:mod:`events.verify`) or from an exported file
(:mod:`events.export`). A row is an event in PostgreSQL's binary tuple form, the very bytes that are hashed, so
nothing is encoded again; it is taken apart once, where the replay needs its parts.

Whatever is wrong raises :class:`~events.errors.CorruptHistoryError` with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np
import orjson

from events.chain import GENESIS, leaf_hash, link, merkle_root
from events.decider import Decider, Emit, EventMeta
from events.errors import CorruptHistoryError
from events.loading import EventDecoder
from events.store.reading import BatchRow
from schemas.common.base import Event

S = TypeVar("S")
#: Looks at the state of a shard at a position, and says what is wrong with something else that claims to equal it.
Probe = Callable[[Any], str | None]

_FIXED: Final = Struct(">hihiqi16siqi")
_LENGTH: Final = Struct(">i")
_POSITION: Final = slice(12, 20)
#: Originator id, a length, and the stream's version: what the check of streams remembers of an event.
_STREAM: Final = slice(24, 52)
_STREAM_TYPE: Final = np.dtype([("high", ">u8"), ("low", ">u8"), ("length", ">i4"), ("version", ">i8")])


class RowParts(NamedTuple):
    """An event row, taken apart. ``metadata`` and ``state`` are the stored bytes."""

    shard: int
    position: int
    originator: bytes
    version: int
    topic: bytes
    metadata: bytes
    state: bytes


class SnapshotMark(NamedTuple):
    """What a stored snapshot says about the state at its position; ``sound`` if its bytes have their digest."""

    digest: bytes
    chain_hash: bytes
    sound: bool


@dataclass(slots=True)
class Base(Generic[S]):
    """Where a check begins: after ``position``, with that chain hash. Without a state nothing is replayed."""

    position: int
    chain: bytes
    state: S | None

    @classmethod
    def genesis(cls, decider: Decider[S], shard: int) -> Base[S]:
        """The beginning of all history."""
        return cls(0, GENESIS, decider.initial(shard))


def parts_of(row: bytes) -> RowParts:
    """Take an encoded row apart; ``struct.error`` or a wrong length mean that it is none."""
    _, _, shard, _, position, _, originator, _, version, topic_length = _FIXED.unpack_from(row)
    topic_end = 56 + topic_length
    (length,) = _LENGTH.unpack_from(row, topic_end)
    metadata_end = topic_end + 4 + length
    return RowParts(
        shard,
        position,
        originator,
        version,
        row[56:topic_end],
        row[topic_end + 4 : metadata_end],
        row[metadata_end + 4 :],
    )


def stream_id(originator: bytes) -> str:
    """Canonical text of a stream's 16 bytes; five times as quick as :class:`uuid.UUID`."""
    h = originator.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


class ShardCheck(Generic[S]):
    """Takes a shard's batches in order and raises at the first that is wrong.

    ``pinned`` are chain hashes that someone else vouches for (signed heads), ``snapshots`` and ``probes`` what
    claims to equal the state, each by position. Memory: the decider's state, and 28 bytes for each event.
    """

    def __init__(
        self,
        decider: Decider[S] | None,
        shard: int,
        base: Base[S],
        *,
        pinned: Mapping[int, bytes] | None = None,
        snapshots: Mapping[int, SnapshotMark] | None = None,
        probes: Mapping[int, Probe] | None = None,
    ) -> None:
        self.shard = shard
        self.first = base.position + 1
        self.position = base.position
        self.chain = base.chain
        self.state = base.state
        self.events = 0
        self.batches = 0
        self.snapshots = 0
        self.probed = 0
        self.signed_position = 0
        self._decider = decider
        self._decoder = EventDecoder(decider) if decider is not None else None
        self._weighs = decider is not None and type(decider).check_events is not Decider.check_events
        self._pinned = {p: c for p, c in (pinned or {}).items() if p >= base.position}
        self._snapshots = {p: s for p, s in (snapshots or {}).items() if p > base.position}
        self._probes = {p: c for p, c in (probes or {}).items() if p >= base.position}
        self._topics: dict[bytes, str] = {}
        self._streams = bytearray()
        self._compare()

    def batch(self, batch: BatchRow, rows: Sequence[bytes]) -> None:
        """Take in the next batch with its rows."""
        first, last = batch.first_position, batch.last_position
        if first != self.position + 1:
            raise CorruptHistoryError(
                f"positions have a gap after {self.position}: a batch begins at {first}"
            )
        self._require_all_rows(first, last, rows)
        root = merkle_root([leaf_hash(row) for row in rows])
        if root != bytes(batch.merkle_root):
            raise CorruptHistoryError(f"positions {first}..{last} do not hash to their Merkle root")
        chain = link(self.chain, batch.shard, first, last, batch.time_us, root)
        if chain != bytes(batch.chain_hash):
            raise CorruptHistoryError(f"the chain breaks at the batch of positions {first}..{last}")
        self.chain = chain
        if self._decider is not None:
            self._replay(self._decider, rows)
        else:
            self._streams += b"".join([row[_STREAM] for row in rows])
        self.position = last
        self.events += len(rows)
        self.batches += 1
        self._compare()

    def finish(self, position: int, chain: bytes) -> str:
        """History must end here. Returns the digest of the state, ``""`` when nothing was replayed."""
        if self.position != position:
            raise CorruptHistoryError(f"history ends at {self.position}, its head says {position}")
        if self.chain != chain:
            raise CorruptHistoryError(
                f"the head's chain hash is not that of the last batch (position {position})"
            )
        self._require_streams_whole()
        for kind, left in (
            ("a signed head", self._pinned),
            ("a snapshot", self._snapshots),
            ("a view", self._probes),
        ):
            if left:
                raise CorruptHistoryError(f"{kind} stands at position {min(left)}, where no batch ends")
        if self._decider is None or self.state is None:
            return ""
        self._decider.check(self.state)
        return sha256(self._decider.dump(self.state)).hexdigest()

    # ------------------------------------------------------------------ positions and streams

    def _require_all_rows(self, first: int, last: int, rows: Sequence[bytes]) -> None:
        if len(rows) == last - first + 1 and int.from_bytes(rows[-1][_POSITION]) == last:
            return
        for expected, row in enumerate(rows, first):
            found = int.from_bytes(row[_POSITION])
            if found != expected:
                raise CorruptHistoryError(
                    f"positions have a gap or a double after {expected - 1}: {found} comes"
                )
        raise CorruptHistoryError(f"positions have a gap after {first + len(rows) - 1}: {last} was to come")

    def _require_streams_whole(self) -> None:
        """Versions of each stream are 1, 2, 3, ... in order of position (from any version after a later base)."""
        seen = np.frombuffer(self._streams, dtype=_STREAM_TYPE)
        order = np.lexsort((seen["low"], seen["high"]))  # stable: positions stay in order within a stream
        ordered = seen[order]
        begins = np.ones(len(ordered), dtype=bool)
        same_high = ordered["high"][1:] == ordered["high"][:-1]
        begins[1:] = ~(same_high & (ordered["low"][1:] == ordered["low"][:-1]))
        expected = np.ones(len(ordered), dtype=np.int64)
        expected[1:] = ordered["version"][:-1].astype(np.int64) + 1
        expected[begins] = 1 if self.first == 1 else ordered["version"][begins]
        wrong = np.flatnonzero(ordered["version"] != expected)
        if len(wrong):
            at = wrong[np.argmin(order[wrong])]
            raise CorruptHistoryError(
                f"position {self.first + int(order[at])}: stream version {int(ordered['version'][at])}, "
                f"not {int(expected[at])}"
            )

    # ------------------------------------------------------------------ state

    def _replay(self, decider: Decider[S], rows: Sequence[bytes]) -> None:
        assert self._decoder is not None
        decode, evolve, topics, probes = self._decoder.decode, decider.evolve, self._topics, self._probes
        fixed, length, weighs, mine = _FIXED.unpack_from, _LENGTH.unpack_from, self._weighs, self.shard
        state, position, weighed = self.state, self.position, list[Emit]()
        for row in rows:  # parts_of(), written out: this loop is most of a verification
            position += 1
            _, _, shard, _, found, _, originator, _, version, size = fixed(row)
            if found != position or shard != mine:
                raise CorruptHistoryError(f"position {position} of shard {mine} holds {shard}/{found}")
            topic_end = 56 + size
            metadata_end = topic_end + 4 + length(row, topic_end)[0]
            topic_bytes = row[56:topic_end]
            topic = topics.get(topic_bytes)
            if topic is None:
                topic = topics[topic_bytes] = topic_bytes.decode()
            event: Event | None = decode(topic, row[metadata_end + 4 :])
            stream = stream_id(originator)
            if event is not None:
                if weighs:
                    weighed.append(Emit(stream, version, event))
                if state is not None:
                    get = orjson.loads(row[topic_end + 4 : metadata_end]).get
                    meta = EventMeta(
                        stream,
                        version,
                        get("time", 0),
                        get("tenant", ""),
                        get("actor", ""),
                        get("correlation", ""),
                        position,
                        get("saga", ""),
                    )
                    state = evolve(state, event, meta)
            if position in probes:
                self.state = state
                self._probe(position)
        self._streams += b"".join([row[_STREAM] for row in rows])
        decider.check_events(weighed)
        self.state = state

    def _compare(self) -> None:
        """Compare what else claims to know this position with what history gives."""
        position = self.position
        vouched = self._pinned.pop(position, None)
        if vouched is not None:
            if vouched != self.chain:
                raise CorruptHistoryError(
                    f"position {position} has another chain hash than the head that was signed: "
                    "history was written anew"
                )
            self.signed_position = position
        if position in self._probes:
            self._probe(position)
        mark = self._snapshots.pop(position, None)
        if mark is None:
            return
        if not mark.sound:
            raise CorruptHistoryError(f"the snapshot at position {position} does not have its own digest")
        if mark.chain_hash != self.chain:
            raise CorruptHistoryError(f"the snapshot at position {position} names another chain hash")
        if self._decider is not None and self.state is not None:
            if sha256(self._decider.dump(self.state)).digest() != mark.digest:
                raise CorruptHistoryError(f"the snapshot at position {position} is not what history gives")
            self.snapshots += 1

    def _probe(self, position: int) -> None:
        problem = self._probes.pop(position)(self.state) if self.state is not None else None
        if problem is not None:
            raise CorruptHistoryError(f"at position {position}: {problem}")
        self.probed += 1
