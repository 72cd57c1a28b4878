"""Which histories a store has had. A restore begins a new one; consumers that keep (history, position) notice.

Kept in the store's ``meta`` as JSON: ``[{"history": uuid, "firsts": {shard: position}, ...}, ...]``, oldest first. A
later history supersedes what the earlier ones say from its first position on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import psycopg
from pydantic import BaseModel, TypeAdapter

from events.backup.topics import Published
from events.store.tables import schema_name

Connection = psycopg.Connection[tuple[Any, ...]]
_KEY: Final = "lineage"


class History(BaseModel):
    """One history and where it begins on each shard; ``backup`` is what the store was restored from."""

    history: str
    firsts: dict[int, int]
    backup: str = ""
    began_at: str = ""


class Lineage:
    """The histories of one store, oldest first."""

    def __init__(self, service: str, entries: list[History]) -> None:
        self.service = service
        self.entries = entries

    @classmethod
    def read(cls, conn: Connection, service: str) -> Lineage:
        """What the store knows; a store that was never restored has one history, from position 1."""
        s = schema_name(service)
        row = conn.execute(f'SELECT value FROM "{s}".meta WHERE key = %s', (_KEY,)).fetchone()
        if row is not None:
            return cls(service, TypeAdapter(list[History]).validate_json(row[0]))
        heads = conn.execute(f'SELECT shard, history::text FROM "{s}".shard_head ORDER BY shard').fetchall()
        return cls(service, [History(history=heads[0][1], firsts={shard: 1 for shard, _ in heads})])

    @property
    def names(self) -> set[str]:
        """All histories."""
        return {e.history for e in self.entries}

    def follow(self, shard: int, published: Published) -> None:
        """Histories that took over after the backup: of restores that this backup does not know of."""
        for history, first in published.histories:
            if first > published.last:
                break
            entry = next((e for e in self.entries if e.history == history), None)
            if entry is None:
                entry = History(history=history, firsts={})
                self.entries.append(entry)
            entry.firsts.setdefault(shard, first)

    def begin(self, history: str, firsts: Mapping[int, int], backup: str) -> None:
        """The history of this restore."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.entries.append(History(history=history, firsts=dict(firsts), backup=backup, began_at=now))

    def rows(self) -> list[tuple[int, int, str, int]]:
        """(shard, ordinal, history, first position) of every shard, as readers keep them."""
        shards = sorted({shard for e in self.entries for shard in e.firsts})
        return [
            (shard, ordinal, entry.history, entry.firsts[shard])
            for shard in shards
            for ordinal, entry in enumerate(e for e in self.entries if shard in e.firsts)
        ]

    def save(self, conn: Connection) -> None:
        """Write, in the caller's transaction; every head gets the newest history."""
        s, newest = schema_name(self.service), self.entries[-1].history
        conn.execute(
            f'INSERT INTO "{s}".meta (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
            (
                _KEY,
                orjson.dumps(
                    [e.model_dump(mode="json") for e in self.entries], option=orjson.OPT_NON_STR_KEYS
                ).decode(),
            ),
        )
        conn.execute(f'UPDATE "{s}".shard_head SET history = %s', (newest,))
