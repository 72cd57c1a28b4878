"""What a shard knew at a time: its state, the position that the time resolves to, and the chain hash as proof.

A time resolves to the last batch recorded at or before it. Across shards that is a cut by recorded time, not a
snapshot: the vector of positions is the answer's exact meaning, and can be asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import psycopg

from events.checking import Base, ShardCheck
from events.decider import Decider
from events.errors import CorruptHistoryError
from events.store.tables import schema_name
from events.verify import base_before, batches_between, check_part, in_parts

S = TypeVar("S")


@dataclass(slots=True)
class Known(Generic[S]):
    """A shard as it was known. ``position`` 0: nothing had happened yet, and there is no ``recorded_us``."""

    service: str
    shard: int
    history: str
    position: int
    recorded_us: int
    chain_hash: str
    digest: str
    state: S


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a shard stands at a time."""

    shard: int
    history: str
    position: int
    recorded_us: int
    chain_hash: bytes


def cuts_at(conn: psycopg.Connection[Any], service: str, as_of_us: int) -> list[Cut]:
    """Where each shard of a service stood at a time (microseconds), in one moment's view."""
    s = schema_name(service)
    rows = conn.execute(
        "SELECT h.shard, h.history::text, coalesce(b.last_position, 0), coalesce(b.time_us, 0), "
        f'coalesce(b.chain_hash, %s) FROM "{s}".shard_head h LEFT JOIN LATERAL ('
        f'SELECT last_position, time_us, chain_hash FROM "{s}".batches x WHERE x.shard = h.shard '
        "AND x.time_us <= %s ORDER BY x.first_position DESC LIMIT 1) b ON true ORDER BY h.shard",
        (bytes(32), as_of_us),
    ).fetchall()
    return [Cut(*row) for row in rows]


def cut_at_position(conn: psycopg.Connection[Any], service: str, shard: int, position: int) -> Cut:
    """A shard at a position of an earlier answer; ``LookupError`` when no batch ends there."""
    s = schema_name(service)
    row = conn.execute(
        "SELECT h.shard, h.history::text, b.last_position, b.time_us, b.chain_hash "
        f'FROM "{s}".shard_head h JOIN "{s}".batches b USING (shard) '
        "WHERE shard = %s AND b.first_position <= %s AND b.last_position = %s",
        (shard, position, position),
    ).fetchone()
    if row is None:
        raise LookupError(f"no batch of {service}/{shard} ends at position {position}")
    return Cut(*row)


def replay_to(
    conn: psycopg.Connection[Any], decider: Decider[S], cut: Cut, *, use_snapshot: bool = False
) -> Known[S]:
    """The state at a cut, replayed from the first event (or the newest snapshot before) and checked on the way.

    Raises :class:`~events.errors.CorruptHistoryError` when history up to there is not what was written.
    """
    schema = schema_name(decider.service)
    base: Base[S] | None = None
    if use_snapshot and cut.position:
        base = base_before(conn, schema, decider, cut.shard, cut.position)
    if base is None or base.state is None:
        base = Base.genesis(decider, cut.shard)
    check = ShardCheck(decider, cut.shard, base)
    for part in in_parts(batches_between(conn, schema, cut.shard, base.position, cut.position)):
        check_part(conn, schema, check, part)
    digest = check.finish(cut.position, cut.chain_hash)
    if check.state is None:
        raise CorruptHistoryError(f"{decider.service}/{cut.shard} could not be replayed")
    return Known(
        decider.service,
        cut.shard,
        cut.history,
        cut.position,
        cut.recorded_us,
        cut.chain_hash.hex(),
        digest,
        check.state,
    )
