"""The append of a small batch as one statement: one round trip to the database instead of seven.

It writes exactly what :func:`events.store.append.append_in_transaction` writes, under the same comparison of
the heads; a head that has moved makes the statement fail as a whole. COPY wins from some hundred rows on
(``docs/decisions/0010-small-batches-in-one-statement.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg.errors import DivisionByZero

from events.chain import decode_row
from events.errors import FencedError
from events.store.append import ShardAppend, decode_result

#: Rows and results together up to which one statement is the quicker way.
MAX_ROWS: Final = 120


def fits(shards: Sequence[ShardAppend]) -> bool:
    """Whether a batch may go as one statement: small, and nothing in it needs an answer on the way."""
    return not any(s.claims or s.dead_letters for s in shards) and (
        sum(len(s.rows) + len(s.results) for s in shards) <= MAX_ROWS
    )


def append_at_once(conn: psycopg.Connection[Any], schema: str, shards: Sequence[ShardAppend]) -> None:
    """Append outside of any transaction; raises :class:`FencedError` when a head is not where it was."""
    ordered = sorted(shards, key=lambda s: s.shard)
    batches = [s for s in ordered if s.root is not None]
    rows = [decode_row(row) for s in ordered for row in s.rows]
    results = [decode_result(result) for s in ordered for result in s.results]
    heads = (
        [s.shard for s in ordered],
        [s.epoch for s in ordered],
        [s.position for s in ordered],
        [s.offset for s in ordered],
        [s.next_position for s in ordered],
        [s.next_offset for s in ordered],
        [s.time_us for s in ordered],
        [s.chain_hash for s in ordered],
    )
    links = (
        [s.shard for s in batches],
        [s.position for s in batches],
        [s.next_position - 1 for s in batches],
        [s.time_us for s in batches],
        [s.epoch for s in batches],
        [s.next_offset for s in batches],
        [s.root for s in batches],
        [s.chain_hash for s in batches],
    )
    parameters = (*heads, *_columns(rows, 7), *_columns(results, 7), *links, len(ordered))
    try:
        conn.execute(_statement(schema), parameters, prepare=True)
    except DivisionByZero as error:
        raise FencedError(f"a head of {schema} moved under this writer") from error


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> Sequence[Sequence[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * width


_statements: dict[str, str] = {}


def _statement(schema: str) -> str:
    found = _statements.get(schema)
    if found is None:
        found = _statements[schema] = _STATEMENT.replace("SCHEMA", f'"{schema}"')
    return found


# The last line is the fence: unless every head was where this writer left it, dividing by zero undoes all.
_STATEMENT: Final = """
WITH swapped AS (
    UPDATE SCHEMA.shard_head h SET next_position = n.next_position, next_offset = n.next_offset,
        chain_hash = n.chain_hash, last_time_us = n.time_us
    FROM unnest(%b::smallint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[],
        %b::bigint[], %b::bytea[])
        AS n(shard, epoch, position, consumed, next_position, next_offset, time_us, chain_hash)
    WHERE h.shard = n.shard AND h.epoch = n.epoch AND h.next_position = n.position AND h.next_offset = n.consumed
    RETURNING 1
), appended AS (
    INSERT INTO SCHEMA.events (shard, position, originator_id, originator_version, topic, metadata, state)
    SELECT * FROM unnest(%b::smallint[], %b::bigint[], %b::uuid[], %b::bigint[], %b::text[], %b::bytea[],
        %b::bytea[])
), answered AS (
    INSERT INTO SCHEMA.command_results (command_id, request_hash, shard, position, outcome, result, recorded_at)
    SELECT r.id, r.hash, r.shard, r.position, r.outcome, r.result,
        timestamptz '2000-01-01 00:00:00+00' + r.at * interval '1 microsecond'
    FROM unnest(%b::uuid[], %b::bytea[], %b::smallint[], %b::bigint[], %b::smallint[], %b::bytea[], %b::bigint[])
        AS r(id, hash, shard, position, outcome, result, at)
), linked AS (
    INSERT INTO SCHEMA.batches (shard, first_position, last_position, time_us, epoch, next_offset, merkle_root,
        chain_hash)
    SELECT * FROM unnest(%b::smallint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[],
        %b::bytea[], %b::bytea[])
)
SELECT 1 / (CASE WHEN (SELECT count(*) FROM swapped) = %b THEN 1 ELSE 0 END)
"""
