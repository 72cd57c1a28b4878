"""Whether positions that a caller names were ever reached: what no shard has was made up, or lost at a restore."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from events.store.tables import schema_name
from nexafi.problems import ProblemError
from schemas.common import tokens


async def refuse_unreached(engine: AsyncEngine, positions: Mapping[str, int]) -> None:
    """Raise the 400 problem ``invalid-consistency-token`` when a shard's head is below its position.

    ``positions`` are ``service/shard`` -> position, of services that exist. A position is handed out only when it is
    committed, so no token that was issued here is ever ahead of the head, except after a restore to an earlier time.
    Waiting for such a position would be in vain.
    """
    asked: dict[str, dict[int, int]] = defaultdict(dict)
    for source, position in positions.items():
        service, _, shard = source.partition("/")
        asked[service][int(shard)] = position
    async with engine.connect() as connection:
        for service, wanted in asked.items():
            query = text(f'SELECT shard, next_position FROM "{schema_name(service)}".shard_head')
            for shard, next_position in (await connection.execute(query)).all():
                if wanted.get(shard, 0) >= next_position:
                    raise _ahead(f"{service}/{shard}", wanted[shard], next_position - 1)


def _ahead(source: str, position: int, head: int) -> ProblemError:
    return ProblemError(
        "invalid-consistency-token",
        f"It names position {position} of {source}, whose history ends at {head}: it was not issued here, or the "
        "platform was restored to an earlier time. Go on without it, and read again what it stood for.",
        pointer=tokens.HEADER,
    )
