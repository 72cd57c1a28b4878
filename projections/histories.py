"""Which events count when a store was restored from a backup.

A restore gives a store a new history (a UUID in every envelope). Events of the new history may begin below the
last position of the old one; what the old one said from there on never happened. The topic keeps both, so a
reader that starts from the beginning has to know where each history took over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from events.subscription import Source
from projections.marks import Connection


@dataclass(slots=True)
class _Line:
    """Histories of one shard, oldest first, with the position from which each counts."""

    names: list[str] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)


class Histories:
    """What is known of all shards' histories. Pure; the table behind it is read and written below."""

    def __init__(self, rows: Iterable[tuple[Source, str, int]] = ()) -> None:
        self._lines: dict[Source, _Line] = {}
        for source, history, first_position in rows:
            line = self._lines.setdefault(source, _Line())
            line.names.append(history)
            line.firsts.append(first_position)

    def known(self, source: Source, history: str) -> bool:
        """Whether this history has been seen on the shard."""
        line = self._lines.get(source)
        return line is not None and history in line.names

    def latest(self, source: Source) -> str:
        """The newest history of a shard, or ``""``."""
        line = self._lines.get(source)
        return line.names[-1] if line else ""

    def ends_before(self, source: Source, history: str) -> int | None:
        """First position at which a later history took over from ``history``; ``None`` when none did."""
        line = self._lines.get(source)
        if line is None or history not in line.names:
            return None
        later = line.firsts[line.names.index(history) + 1 :]
        return min(later) if later else None

    def counts(self, source: Source, history: str, position: int) -> bool:
        """Whether the event at ``position`` of a known ``history`` still counts."""
        end = self.ends_before(source, history)
        return end is None or position < end

    def overtaken(self, source: Source, history: str, position: int) -> bool:
        """Whether a reader that stands at ``position`` of ``history`` has taken in events that never happened."""
        end = self.ends_before(source, history)
        return end is not None and end <= position


async def load_histories(connection: Connection) -> Histories:
    """All histories that any reader has met."""
    rows = await connection.fetch(
        "SELECT service, shard, history, first_position FROM views.histories ORDER BY service, shard, ordinal"
    )
    return Histories(((r["service"], r["shard"]), r["history"], r["first_position"]) for r in rows)


async def record_history(connection: Connection, source: Source, history: str, first_position: int) -> None:
    """Remember that ``history`` begins at ``first_position``; nothing happens when it is known."""
    await connection.execute(
        """INSERT INTO views.histories (service, shard, ordinal, history, first_position)
           SELECT $1, $2::int2, coalesce(max(ordinal) + 1, 0), $3, $4 FROM views.histories
           WHERE service = $1 AND shard = $2::int2
           ON CONFLICT DO NOTHING""",
        source[0],
        source[1],
        history,
        first_position,
    )
