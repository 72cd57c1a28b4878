"""Which command of a batch it is whose rows PostgreSQL refuses: asked of PostgreSQL, on rows that are there already.

The rows of the batch that failed are written once more, in a transaction that is always undone, by halves: what is
accepted stays while the rest is tried. No state is loaded and nothing is decided for it, so one bad command costs
some twenty statements (:class:`events.suspects.Suspects` says what happens to it then).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg

from events.chain import decode_row
from events.store.append import ShardAppend, append_rows, decode_result
from events.store.recorder import ShardRecorder


@dataclass(slots=True)
class _Rows:
    """What one command (of a client or of a deadline) adds to its shard."""

    command_id: str
    rows: list[bytes] = field(default_factory=list)
    results: list[bytes] = field(default_factory=list)


def first_refused(recorder: ShardRecorder, shards: Sequence[ShardAppend]) -> str | None:
    """Id of the first command whose events or answer are refused (SQLSTATE class 22 or 23); ``None``: none is.

    Only the first: the others were decided as if it had happened. psycopg's other errors pass through.
    """
    commands = [rows for shard in sorted(shards, key=lambda s: s.shard) for rows in _by_command(shard)]
    with recorder.connection() as conn, conn.transaction(force_rollback=True):
        good, bad = 0, len(commands)
        if not commands or _accepted(conn, recorder.schema, commands):
            return None
        while bad - good > 1:
            middle = (good + bad) // 2
            if _accepted(conn, recorder.schema, commands[good:middle]):
                good = middle
            else:
                bad = middle
    return commands[good].command_id


def _accepted(conn: psycopg.Connection[Any], schema: str, commands: Sequence[_Rows]) -> bool:
    try:
        with conn.transaction():  # a savepoint
            append_rows(
                conn, schema, [r for c in commands for r in c.rows], [r for c in commands for r in c.results]
            )
    except (psycopg.DataError, psycopg.IntegrityError):
        return False
    return True


def _by_command(shard: ShardAppend) -> list[_Rows]:
    """The shard's rows by the command that caused them, in the order in which commands were decided."""
    found: dict[str, _Rows] = {}
    for row in shard.rows:
        cause = orjson.loads(decode_row(row)[5]).get("causation", "")
        found.setdefault(cause, _Rows(cause)).rows.append(row)
    for result in shard.results:
        identifier = str(decode_result(result)[0])
        found.setdefault(identifier, _Rows(identifier)).results.append(result)
    return list(found.values())
