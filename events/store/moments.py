"""Which position a shard had reached at a time, and when a position was recorded.

Batches of a shard have rising times, so the last one that is not after a time is found by halving: one statement,
some twenty steps over the primary key for a million batches.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from events.store.tables import schema_name


class Moment(NamedTuple):
    """All that a shard had recorded up to ``position``, the last of it at ``time_us``; (0, 0) before anything."""

    position: int
    time_us: int


_AT: Final = """
    WITH RECURSIVE halving(lo, hi) AS (
        SELECT 0::int8, coalesce((SELECT last_position FROM "{s}".batches WHERE shard = :shard
                                  ORDER BY first_position DESC LIMIT 1), 0)
        UNION ALL
        SELECT CASE WHEN b.time_us <= :time_us THEN b.last_position ELSE lo END,
               CASE WHEN b.time_us <= :time_us THEN hi ELSE b.first_position - 1 END
        FROM halving, LATERAL (SELECT first_position, last_position, time_us FROM "{s}".batches
                               WHERE shard = :shard AND first_position <= (lo + hi + 1) / 2
                               ORDER BY first_position DESC LIMIT 1) b
        WHERE lo < hi
    ) SELECT lo FROM halving WHERE lo >= hi"""
_RECORDED: Final = """
    SELECT last_position, time_us FROM "{s}".batches WHERE shard = :shard AND first_position <= :position
    ORDER BY first_position DESC LIMIT 1"""


async def moment_at(engine: AsyncEngine, service: str, shard: int, time_us: int) -> Moment:
    """What the shard knew at ``time_us`` (microseconds since 1970)."""
    query = text(_AT.format(s=schema_name(service)))
    async with engine.connect() as connection:
        position = (await connection.execute(query, {"shard": shard, "time_us": time_us})).scalar_one()
    return await moment_of(engine, service, shard, position) or Moment(0, 0)


async def moment_of(engine: AsyncEngine, service: str, shard: int, position: int) -> Moment | None:
    """When ``position`` was recorded; ``None`` when it has not been. Position 0 is before anything."""
    if position == 0:
        return Moment(0, 0)
    query = text(_RECORDED.format(s=schema_name(service)))
    async with engine.connect() as connection:
        row = (await connection.execute(query, {"shard": shard, "position": position})).first()
    if row is None or row[0] < position:
        return None
    return Moment(position, row[1])
