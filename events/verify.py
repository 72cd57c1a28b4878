"""Does a store still say what was written? Hashes, positions, heads, streams, results, balances and snapshots.

Everything is computed anew from the stored rows; nothing that the store says about itself is believed. A check
has an upper bound, the heads as one transaction saw them at its start, so it is right while writers go on.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeVar

import psycopg

from events.checking import Base, Probe, ShardCheck, SnapshotMark
from events.decider import Decider, InvariantViolationError
from events.errors import CorruptHistoryError
from events.signed_heads import Pins
from events.store.heads import Head
from events.store.reading import BatchRow
from events.store.recorder import ShardRecorder
from events.store.tables import schema_name
from nexafi.memory import collecting_seldom

S = TypeVar("S")
Connection = psycopg.Connection[Any]
#: Events copied out of the store at a time.
CHUNK_EVENTS: Final = 20_000
#: A batch that claims more events than any writer appends is a finding, not a reason to run out of memory.
MAX_BATCH_EVENTS: Final = 4_000_000
_COPY_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_COPY_HEADER_BYTES: Final = 19
_BATCH: Final = "shard, first_position, last_position, time_us, epoch, next_offset, merkle_root, chain_hash"
_EVENT: Final = "shard, position, originator_id, originator_version, topic, metadata, state"


@dataclass
class ShardReport:
    """What was checked on one shard, and what is wrong with it (``problem`` ``None``: nothing)."""

    service: str
    shard: int
    events: int = 0
    batches: int = 0
    snapshots: int = 0
    results: int = 0
    views: int = 0
    first: int = 1
    position: int = 0
    replayed: bool = True
    signed_position: int = 0
    chain_hash: str = ""
    digest: str = ""
    seconds: float = 0.0
    problem: str | None = None


@dataclass
class ShardSurvey:
    """What a store says about one shard, all read in one transaction."""

    head: Head
    last_event: int
    last_batch: int
    snapshots: dict[int, SnapshotMark] = field(default_factory=dict)
    results: int = 0
    lowest_result: int = 0
    highest_result: int = 0

    def contradiction(self) -> str | None:
        """Why these can not all be true; ``None`` when they can."""
        last = self.head.next_position - 1
        if not self.last_event == self.last_batch == last:
            return (
                f"events end at {self.last_event}, batches end at {self.last_batch}, "
                f"the head says next position {self.head.next_position}"
            )
        if self.results and not 0 <= self.lowest_result <= self.highest_result <= last:
            return (
                f"results point at positions {self.lowest_result}..{self.highest_result}, "
                f"history ends at {last}"
            )
        return None


def survey(conn: Connection, service: str, state_version: int) -> list[ShardSurvey]:
    """All shards of a store as one moment saw them; raises :class:`CorruptHistoryError` for rows of no shard."""
    s = schema_name(service)
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        rows = conn.execute(
            "SELECT shard, epoch, owner, history::text, next_position, next_offset, last_time_us, chain_hash, "
            f'coalesce((SELECT max(position) FROM "{s}".events e WHERE e.shard = h.shard), 0), '
            f'coalesce((SELECT last_position FROM "{s}".batches b WHERE b.shard = h.shard '
            f'ORDER BY first_position DESC LIMIT 1), 0) FROM "{s}".shard_head h ORDER BY shard'
        ).fetchall()
        found = {row[0]: ShardSurvey(Head(*row[:8]), row[8], row[9]) for row in rows}
        snapshots = conn.execute(
            "SELECT shard, position, digest, chain_hash, sha256(state) = digest "
            f'FROM "{s}".snapshots WHERE state_version = %s',
            (state_version,),
        ).fetchall()
        results = conn.execute(
            f'SELECT shard, count(*), min(position), max(position) FROM "{s}".command_results GROUP BY shard'
        ).fetchall()
        strays = conn.execute(
            "SELECT 'events', x.shard FROM (SELECT min(shard) AS shard FROM "
            f'"{s}".events UNION SELECT max(shard) FROM "{s}".events) x WHERE x.shard IS NOT NULL'
        ).fetchall()
        counted = conn.execute(f"SELECT value FROM \"{s}\".meta WHERE key = 'shards'").fetchone()
    named = [*strays, *(("snapshots", r[0]) for r in snapshots), *(("results", r[0]) for r in results)]
    for what, shard in named:
        if shard not in found:
            raise CorruptHistoryError(f"there are {what} of shard {shard}, which has no head")
    if counted is not None and sorted(found) != list(range(int(counted[0]))):
        raise CorruptHistoryError(f"the store was made with {counted[0]} shards, heads are {sorted(found)}")
    for shard, position, digest, chain_hash, sound in snapshots:
        found[shard].snapshots[position] = SnapshotMark(bytes(digest), bytes(chain_hash), sound)
    for shard, *figures in results:
        found[shard].results, found[shard].lowest_result, found[shard].highest_result = figures
    return list(found.values())


def verify_shard(
    conn: Connection,
    decider: Decider[S],
    shard: ShardSurvey,
    *,
    since_us: int | None = None,
    pins: Pins | None = None,
    probes: Mapping[int, Probe] | None = None,
) -> ShardReport:
    """Check one shard up to its head; the report names the first place that is wrong.

    ``since_us`` begins at the first batch of that time or later, on the newest usable snapshot before it;
    without one, nothing is replayed. ``pins`` is what signed heads say; they must have been read
    before the survey. ``probes`` as in :class:`~events.checking.ShardCheck`.
    """
    report = ShardReport(decider.service, shard.head.shard, results=shard.results)
    begun = time.perf_counter()
    try:
        with collecting_seldom():
            _verify(conn, decider, shard, report, since_us, pins, probes)
    except CorruptHistoryError as error:
        report.problem = str(error)
    except (psycopg.OperationalError, psycopg.InterfaceError):
        raise  # the database went away: that says nothing about history
    except InvariantViolationError as error:
        report.problem = f"an invariant is broken: {error}"
    except Exception as error:  # noqa: BLE001 -- whatever a damaged store makes fail is a finding, not a crash
        report.problem = f"{type(error).__name__}: {error}"
    report.seconds = time.perf_counter() - begun
    return report


def _verify(
    conn: Connection,
    decider: Decider[S],
    shard: ShardSurvey,
    report: ShardReport,
    since_us: int | None,
    pins: Pins | None,
    probes: Mapping[int, Probe] | None,
) -> None:
    head, schema = shard.head, schema_name(decider.service)
    last = head.next_position - 1
    if (contradiction := shard.contradiction()) is not None:
        raise CorruptHistoryError(contradiction)
    if pins is not None:
        _require_signed_history(head, pins)
    base = Base.genesis(decider, head.shard)
    if since_us is not None:
        base = _base_at(conn, schema, decider, head.shard, since_us, last)
    snapshots = {p: s for p, s in shard.snapshots.items() if p <= last}
    pinned = pins.chains if pins is not None else None
    check = ShardCheck(decider, head.shard, base, pinned=pinned, snapshots=snapshots, probes=probes)
    report.first, report.replayed = check.first, base.state is not None
    try:
        for part in in_parts(batches_between(conn, schema, head.shard, base.position, last)):
            check_part(conn, schema, check, part)
        report.digest = check.finish(last, bytes(head.chain_hash))
    finally:
        report.events, report.batches, report.snapshots = check.events, check.batches, check.snapshots
        report.views, report.position = check.probed, check.position
        report.signed_position = check.signed_position
        report.chain_hash = check.chain.hex()


def _require_signed_history(head: Head, pins: Pins) -> None:
    """The store is of the history that was signed, and reaches as far."""
    last, signed = head.next_position - 1, max(pins.chains, default=0)
    if pins.problem is not None:
        raise CorruptHistoryError(pins.problem)
    if signed > last:
        raise CorruptHistoryError(
            f"a head was signed at position {signed}, history ends at {last}: it was cut or rolled back"
        )
    if head.history != pins.history:
        raise CorruptHistoryError(f"history {head.history} is not {pins.history}, which was signed")


def check_part(conn: Connection, schema: str, check: ShardCheck[Any], part: Sequence[BatchRow]) -> None:
    """Copy the events of some batches and check them batch by batch."""
    rows = copied_rows(conn, schema, check.shard, part[0].first_position, part[-1].last_position)
    try:
        for batch in part:
            size = batch.last_position - batch.first_position + 1
            if not 0 < size <= MAX_BATCH_EVENTS:
                raise CorruptHistoryError(
                    f"a batch claims positions {batch.first_position}..{batch.last_position}"
                )
            check.batch(batch, list(islice(rows, size)))
        if next(rows, None) is not None:
            raise CorruptHistoryError(
                f"there are more events up to {part[-1].last_position} than batches say"
            )
    finally:
        rows.close()


def _base_at(
    conn: Connection, schema: str, decider: Decider[S], shard: int, since_us: int, last: int
) -> Base[S]:
    """Where a check of the time from ``since_us`` begins."""
    row = conn.execute(
        f'SELECT first_position FROM "{schema}".batches WHERE shard = %s AND time_us >= %s '
        "ORDER BY first_position LIMIT 1",
        (shard, since_us),
    ).fetchone()
    return base_before(conn, schema, decider, shard, last if row is None else int(row[0]) - 1)


def base_before(conn: Connection, schema: str, decider: Decider[S], shard: int, position: int) -> Base[S]:
    """The newest usable snapshot at or before ``position``, where a batch must end; without one, no state."""
    if position == 0:
        return Base.genesis(decider, shard)
    snapshot = conn.execute(
        f'SELECT position, state FROM "{schema}".snapshots WHERE shard = %s AND state_version = %s '
        "AND position <= %s AND sha256(state) = digest ORDER BY position DESC LIMIT 1",
        (shard, decider.state_version, position),
    ).fetchone()
    state = None
    if snapshot is not None:
        position, state = snapshot[0], decider.load(bytes(snapshot[1]))
    before = conn.execute(
        f'SELECT chain_hash FROM "{schema}".batches WHERE shard = %s AND last_position = %s '
        "AND first_position <= %s",
        (shard, position, position),
    ).fetchone()
    if before is None:
        raise CorruptHistoryError(f"no batch ends at position {position}")
    return Base(position, bytes(before[0]), state)


def batches_between(conn: Connection, schema: str, shard: int, after: int, last: int) -> Iterator[BatchRow]:
    """Batches with ``after < first_position <= last``, in order."""
    position = after
    while True:
        rows = conn.execute(
            f'SELECT {_BATCH} FROM "{schema}".batches WHERE shard = %s AND first_position > %s '
            "AND first_position <= %s ORDER BY first_position LIMIT 5000",
            (shard, position, last),
        ).fetchall()
        if not rows:
            return
        for row in rows:
            yield BatchRow(*row)
        position = rows[-1][1]


def in_parts(batches: Iterator[BatchRow]) -> Iterator[list[BatchRow]]:
    """Runs of batches that together have about :data:`CHUNK_EVENTS` events."""
    part: list[BatchRow] = []
    for batch in batches:
        part.append(batch)
        if batch.last_position - part[0].first_position >= CHUNK_EVENTS:
            yield part
            part = []
    if part:
        yield part


def copied_rows(
    conn: Connection, schema: str, shard: int, first: int, last: int
) -> Generator[bytes, None, None]:
    """Events of a shard in order of position, each as the binary tuple that its leaf is the hash of."""
    query = (
        f'COPY (SELECT {_EVENT} FROM "{schema}".events WHERE shard = {shard:d} AND position >= {first:d} '
        f"AND position <= {last:d} ORDER BY position) TO STDOUT (FORMAT BINARY)"
    )
    with conn.cursor() as cursor, cursor.copy(query) as copy:
        for data in copy:
            row = bytes(data)
            if row.startswith(_COPY_SIGNATURE):
                row = row[_COPY_HEADER_BYTES:]
            if len(row) > 2:  # not the trailer
                yield row


def verify_store(
    recorder: ShardRecorder, decider: Decider[S], shards: list[int] | None = None
) -> list[ShardReport]:
    """Check all (or the named) shards of a store, one after another, on a connection of the recorder.

    :func:`events.verify_pool.verify_stores` does the same on every core.
    """
    with recorder.connection() as conn:
        try:
            found = survey(conn, decider.service, decider.state_version)
        except CorruptHistoryError as error:
            return [ShardReport(decider.service, -1, problem=str(error))]
        return [
            verify_shard(conn, decider, each) for each in found if shards is None or each.head.shard in shards
        ]
