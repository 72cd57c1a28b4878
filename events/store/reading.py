"""Reading a store: history by position or stream, results, snapshots, batches, dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from events.store.recorder import ShardRecorder


class StoredRow(NamedTuple):
    """An event as it stands in the table."""

    shard: int
    position: int
    originator_id: UUID
    originator_version: int
    topic: str
    metadata: bytes
    state: bytes


class BatchRow(NamedTuple):
    """One appended batch of a shard and its place in the hash chain."""

    shard: int
    first_position: int
    last_position: int
    time_us: int
    epoch: int
    next_offset: int
    merkle_root: bytes
    chain_hash: bytes


class ResultRow(NamedTuple):
    """The stored answer to a command."""

    command_id: UUID
    request_hash: bytes
    shard: int
    position: int
    outcome: int
    result: bytes


@dataclass(slots=True)
class Snapshot:
    """State of a shard at a position."""

    shard: int
    position: int
    state_version: int
    digest: bytes
    chain_hash: bytes
    state: bytes


_EVENT = "shard, position, originator_id, originator_version, topic, metadata, state"


def tail(
    recorder: ShardRecorder, shard: int, after: int, *, upto: int | None = None, chunk: int = 5000
) -> Iterator[list[StoredRow]]:
    """Events of a shard with ``after < position <= upto`` in chunks, in order. Raises on a gap.

    Binary results: psycopg parses them several times quicker than text.
    """
    position = after
    while True:
        with recorder.connection() as conn, conn.cursor(binary=True) as cursor:
            cursor.execute(
                f'SELECT {_EVENT} FROM "{recorder.schema}".events WHERE shard = %s AND position > %s AND position <= %s '
                "ORDER BY position LIMIT %s",
                (shard, position, upto if upto is not None else 2**62, chunk),
            )
            rows = [StoredRow(*row) for row in cursor.fetchall()]
        if not rows:
            return
        from events.errors import CorruptHistoryError

        if rows[0].position != position + 1 or rows[-1].position != position + len(rows):
            raise CorruptHistoryError(
                f"{recorder.service}/{shard}: history has a gap after position {position}"
            )
        yield rows
        position = rows[-1].position


def streams(recorder: ShardRecorder, ids: Sequence[str]) -> dict[str, list[StoredRow]]:
    """Whole streams by id, each in order of version."""
    found: dict[str, list[StoredRow]] = {i: [] for i in ids}
    with recorder.connection() as conn, conn.cursor(binary=True) as cursor:
        cursor.execute(
            f'SELECT {_EVENT} FROM "{recorder.schema}".events WHERE originator_id = ANY(%s) '
            "ORDER BY originator_id, originator_version",
            ([UUID(i) for i in ids],),
        )
        for row in cursor.fetchall():
            found[str(row[2])].append(StoredRow(*row))
    return found


def results(recorder: ShardRecorder, ids: Sequence[bytes]) -> dict[bytes, ResultRow]:
    """Stored results of the commands with these ids (16 bytes each)."""
    with recorder.connection() as conn, conn.cursor(binary=True) as cursor:
        cursor.execute(
            "SELECT command_id, request_hash, shard, position, outcome, result "
            f'FROM "{recorder.schema}".command_results WHERE command_id = ANY(%s)',
            ([UUID(bytes=i) for i in ids],),
        )
        return {row[0].bytes: ResultRow(*row) for row in cursor.fetchall()}


def batches(recorder: ShardRecorder, shard: int, *, after: int = 0) -> Iterator[BatchRow]:
    """Batches of a shard in order, from the first that ends above ``after``."""
    position = after
    while True:
        with recorder.connection() as conn:
            rows = conn.execute(
                "SELECT shard, first_position, last_position, time_us, epoch, next_offset, merkle_root, chain_hash "
                f'FROM "{recorder.schema}".batches WHERE shard = %s AND first_position > %s ORDER BY first_position LIMIT 5000',
                (shard, position),
            ).fetchall()
        if not rows:
            return
        for row in rows:
            yield BatchRow(*row)
        position = rows[-1][1]


def latest_snapshot(recorder: ShardRecorder, shard: int, state_version: int, upto: int) -> Snapshot | None:
    """The newest snapshot of this state version at or below position ``upto``."""
    with recorder.connection() as conn:
        row = conn.execute(
            f'SELECT shard, position, state_version, digest, chain_hash, state FROM "{recorder.schema}".snapshots '
            "WHERE shard = %s AND state_version = %s AND position <= %s ORDER BY position DESC LIMIT 1",
            (shard, state_version, upto),
        ).fetchone()
    return Snapshot(*row) if row is not None else None


def save_snapshot(recorder: ShardRecorder, snapshot: Snapshot, *, keep: int = 2) -> None:
    """Store a snapshot and drop all but the newest ``keep`` of its shard."""
    with recorder.connection() as conn, conn.transaction():
        conn.execute(
            f'INSERT INTO "{recorder.schema}".snapshots (shard, position, state_version, digest, chain_hash, state) '
            "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (shard, position) DO UPDATE SET "
            "state_version = excluded.state_version, digest = excluded.digest, state = excluded.state",
            (
                snapshot.shard,
                snapshot.position,
                snapshot.state_version,
                snapshot.digest,
                snapshot.chain_hash,
                snapshot.state,
            ),
        )
        conn.execute(
            f'DELETE FROM "{recorder.schema}".snapshots WHERE shard = %s AND position < '
            f'(SELECT min(position) FROM (SELECT position FROM "{recorder.schema}".snapshots WHERE shard = %s '
            "ORDER BY position DESC LIMIT %s) newest)",
            (snapshot.shard, snapshot.shard, keep),
        )


def relay_marks(recorder: ShardRecorder) -> dict[int, int]:
    """Per shard: the last position that is known to be published."""
    with recorder.connection() as conn:
        rows: list[Any] = conn.execute(
            f'SELECT shard, position FROM "{recorder.schema}".relay_marks'
        ).fetchall()
    return dict(rows)


def save_relay_marks(recorder: ShardRecorder, marks: dict[int, int]) -> None:
    """Move marks forward. Losing this write only means publishing again, so it does not wait for the disk."""
    with recorder.connection() as conn, conn.transaction():
        conn.execute("SET LOCAL synchronous_commit = off")
        conn.execute(
            f'UPDATE "{recorder.schema}".relay_marks m SET position = n.position '
            "FROM unnest(%s::smallint[], %s::bigint[]) AS n(shard, position) "
            "WHERE m.shard = n.shard AND m.position < n.position",
            (list(marks), list(marks.values())),
        )
