"""The one transaction that appends: heads, claims, events, results, batches and dead letters together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from struct import Struct
from typing import Any, Final
from uuid import UUID

import psycopg
from eventsourcing.persistence import StoredEvent

from events.chain import encode_row, leaf_hash, link, merkle_root
from events.errors import ClaimConflictError, FencedError

_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END: Final = b"\xff\xff"
_RESULT: Final = Struct(">hi16si")
_RESULT_TAIL: Final = Struct(">ihiqihi")
_TIMESTAMP: Final = Struct(">iq")
#: PostgreSQL counts microseconds from 2000-01-01.
_PG_EPOCH_US: Final = 946_684_800_000_000

ACCEPTED: Final = 0
REJECTED: Final = 1


@dataclass(slots=True)
class DeadLetter:
    """A record (or one item of a bulk record) that is set aside with its bytes and the cause."""

    topic: str
    partition: int
    offset: int
    item: int
    headers: bytes
    key: bytes | None
    value: bytes | None
    error: str
    cause: str
    command_id: str | None = None


@dataclass(slots=True)
class ClaimRow:
    """A claim to insert; ``owner`` is the claiming command's id, ``pointer`` where the value stands in it."""

    scope: str
    value_hmac: bytes
    owner: str
    pointer: str | None = None


@dataclass(slots=True)
class ShardAppend:
    """What one batch adds to one shard. ``rows`` and ``results`` are encoded binary tuples."""

    shard: int
    epoch: int
    position: int
    offset: int
    next_position: int
    next_offset: int
    time_us: int
    chain_hash: bytes
    root: bytes | None
    rows: list[bytes] = field(default_factory=list)
    results: list[bytes] = field(default_factory=list)
    claims: list[ClaimRow] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


def encode_result(
    command: bytes, request_hash: bytes, shard: int, position: int, outcome: int, result: bytes, time_us: int
) -> bytes:
    """Binary tuple of a ``command_results`` row."""
    return b"".join(
        (
            _RESULT.pack(7, 16, command, len(request_hash)),
            request_hash,
            _RESULT_TAIL.pack(2, shard, 8, position, 2, outcome, len(result)),
            result,
            _TIMESTAMP.pack(8, time_us - _PG_EPOCH_US),
        )
    )


def decode_result(row: bytes) -> tuple[UUID, bytes, int, int, int, bytes, int]:
    """The fields of an encoded result: command, hash, shard, position, outcome, result, microseconds since 2000."""
    _, _, command, length = _RESULT.unpack_from(row)
    hash_end = _RESULT.size + length
    _, shard, _, position, _, outcome, length = _RESULT_TAIL.unpack_from(row, hash_end)
    start = hash_end + _RESULT_TAIL.size
    _, since_2000 = _TIMESTAMP.unpack_from(row, start + length)
    return (
        UUID(bytes=command),
        row[_RESULT.size : hash_end],
        shard,
        position,
        outcome,
        row[start : start + length],
        since_2000,
    )


def append_in_transaction(conn: psycopg.Connection[Any], schema: str, shards: Sequence[ShardAppend]) -> None:
    """Append inside the caller's transaction. Heads first: a fenced writer writes nothing else."""
    ordered = sorted(shards, key=lambda s: s.shard)  # ascending, so that no two writers can deadlock
    _swap_heads(conn, schema, ordered)
    claims = sorted((c for s in ordered for c in s.claims), key=lambda c: (c.scope, c.value_hmac))
    if claims:
        _claim(conn, schema, claims)
    append_rows(conn, schema, [r for s in ordered for r in s.rows], [r for s in ordered for r in s.results])
    batches = [s for s in ordered if s.root is not None]
    if batches:
        conn.execute(
            f'INSERT INTO "{schema}".batches (shard, first_position, last_position, time_us, epoch, next_offset, '
            "merkle_root, chain_hash) SELECT * FROM unnest(%s::smallint[], %s::bigint[], %s::bigint[], %s::bigint[], "
            "%s::bigint[], %s::bigint[], %s::bytea[], %s::bytea[])",
            (
                [s.shard for s in batches],
                [s.position for s in batches],
                [s.next_position - 1 for s in batches],
                [s.time_us for s in batches],
                [s.epoch for s in batches],
                [s.next_offset for s in batches],
                [s.root for s in batches],
                [s.chain_hash for s in batches],
            ),
        )
    for letter in (d for s in ordered for d in s.dead_letters):
        _set_aside(conn, schema, letter)


def append_rows(
    conn: psycopg.Connection[Any], schema: str, rows: Sequence[bytes], results: Sequence[bytes]
) -> None:
    """Copy encoded events and answers into their tables, and nothing else."""
    if rows:
        columns = "shard, position, originator_id, originator_version, topic, metadata, state"
        _copy(conn, f'COPY "{schema}".events ({columns}) FROM STDIN (FORMAT BINARY)', rows)
    if results:
        columns = "command_id, request_hash, shard, position, outcome, result, recorded_at"
        _copy(conn, f'COPY "{schema}".command_results ({columns}) FROM STDIN (FORMAT BINARY)', results)


def _swap_heads(conn: psycopg.Connection[Any], schema: str, shards: Sequence[ShardAppend]) -> None:
    swapped = conn.execute(
        f'UPDATE "{schema}".shard_head h SET next_position = n.next_position, next_offset = n.next_offset, '
        "chain_hash = n.chain_hash, last_time_us = n.time_us "
        "FROM unnest(%s::smallint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], "
        "%s::bigint[], %s::bytea[]) "
        "AS n(shard, epoch, position, consumed, next_position, next_offset, time_us, chain_hash) "
        "WHERE h.shard = n.shard AND h.epoch = n.epoch AND h.next_position = n.position AND h.next_offset = n.consumed",
        (
            [s.shard for s in shards],
            [s.epoch for s in shards],
            [s.position for s in shards],
            [s.offset for s in shards],
            [s.next_position for s in shards],
            [s.next_offset for s in shards],
            [s.time_us for s in shards],
            [s.chain_hash for s in shards],
        ),
    ).rowcount
    if swapped != len(shards):
        raise FencedError(
            f"{len(shards) - swapped} of {len(shards)} heads of {schema} moved under this writer"
        )


def _claim(conn: psycopg.Connection[Any], schema: str, claims: Sequence[ClaimRow]) -> None:
    inserted = conn.execute(
        f'INSERT INTO "{schema}".claims (scope, value_hmac, owner) '
        "SELECT * FROM unnest(%s::text[], %s::bytea[], %s::uuid[]) ON CONFLICT DO NOTHING RETURNING owner, scope, value_hmac",
        ([c.scope for c in claims], [c.value_hmac for c in claims], [c.owner for c in claims]),
    ).fetchall()
    if len(inserted) != len(claims):
        won = {(str(owner), scope, bytes(value)) for owner, scope, value in inserted}
        raise ClaimConflictError(
            {c.owner: c.pointer for c in claims if (c.owner, c.scope, c.value_hmac) not in won}
        )


def _copy(conn: psycopg.Connection[Any], statement: str, rows: Sequence[bytes]) -> None:
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(b"".join((_COPY_HEADER, *rows, _COPY_END)))


def _set_aside(conn: psycopg.Connection[Any], schema: str, letter: DeadLetter) -> None:
    conn.execute(
        f'INSERT INTO "{schema}".dead_letters (topic, partition, record_offset, item, command_id, headers, key, value, '
        "error, cause) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (topic, partition, record_offset, item) DO UPDATE SET error = excluded.error, cause = excluded.cause",
        (
            letter.topic,
            letter.partition,
            letter.offset,
            letter.item,
            letter.command_id,
            letter.headers,
            letter.key,
            letter.value,
            letter.error,
            letter.cause,
        ),
    )


def single_append(
    shard: int,
    epoch: int,
    position: int,
    offset: int,
    next_offset: int,
    chain: bytes,
    last_time_us: int,
    events: Sequence[StoredEvent],
) -> ShardAppend:
    """A batch of plain stored events, without commands and results (the library's way of writing)."""
    now = int(datetime.now(UTC).timestamp() * 1_000_000)
    time_us = max(now, last_time_us + 1)
    rows = [
        encode_row(
            shard,
            position + i,
            (e.originator_id if isinstance(e.originator_id, UUID) else UUID(e.originator_id)).bytes,
            e.originator_version,
            e.topic.encode(),
            b"{}",
            e.state,
        )
        for i, e in enumerate(events)
    ]
    root, chain_hash = None, chain
    if rows:
        root = merkle_root([leaf_hash(r) for r in rows])
        chain_hash = link(chain, shard, position, position + len(rows) - 1, time_us, root)
    return ShardAppend(
        shard=shard,
        epoch=epoch,
        position=position,
        offset=offset,
        next_position=position + len(rows),
        next_offset=next_offset,
        time_us=time_us,
        chain_hash=chain_hash,
        root=root,
        rows=rows,
    )
