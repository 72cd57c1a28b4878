"""How far each version of each view has come, and which version is live.

A mark is moved only by ``UPDATE ... WHERE position = $old`` in the transaction that writes the rows, so rows and
mark are one thing and two runners can not both write: the second finds no row to update and stops.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import asyncpg

from events.subscription import Source

Connection: TypeAlias = asyncpg.Connection
State: TypeAlias = Literal["building", "live", "kept", "scratch", "dropped"]

#: Views that are PostgreSQL tables and those that are Elasticsearch indices share these tables.
DDL: Final = (
    "CREATE SCHEMA IF NOT EXISTS views",
    """CREATE TABLE IF NOT EXISTS views.versions (
        view text NOT NULL,
        version integer NOT NULL,
        code integer NOT NULL,
        state text NOT NULL CHECK (state IN ('building', 'live', 'kept', 'scratch', 'dropped')),
        tables text[] NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        switched_at timestamptz,
        digest text,
        layout text NOT NULL DEFAULT '',
        PRIMARY KEY (view, version)
    )""",
    # Installations that were made before these were there.
    "ALTER TABLE views.versions ADD COLUMN IF NOT EXISTS layout text NOT NULL DEFAULT ''",
    """DO $$ BEGIN
        IF (SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'versions_state_check'
            AND conrelid = 'views.versions'::regclass) NOT LIKE '%dropped%' THEN
            ALTER TABLE views.versions DROP CONSTRAINT versions_state_check, ADD CONSTRAINT versions_state_check
                CHECK (state IN ('building', 'live', 'kept', 'scratch', 'dropped'));
        END IF;
    END $$""",
    "CREATE UNIQUE INDEX IF NOT EXISTS versions_live ON views.versions (view) WHERE state = 'live'",
    """CREATE TABLE IF NOT EXISTS views.marks (
        view text NOT NULL,
        version integer NOT NULL,
        service text NOT NULL,
        shard smallint NOT NULL,
        position bigint NOT NULL DEFAULT 0,
        next_offset bigint NOT NULL DEFAULT 0,
        history text NOT NULL DEFAULT '',
        event_time bigint NOT NULL DEFAULT 0,
        retired boolean NOT NULL DEFAULT false,
        runner text NOT NULL DEFAULT '',
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (view, version, service, shard)
    ) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)""",
    # Histories of a shard in the order in which they appeared; a later one supersedes what the earlier
    # ones say from its first position on.
    """CREATE TABLE IF NOT EXISTS views.histories (
        service text NOT NULL,
        shard smallint NOT NULL,
        ordinal integer NOT NULL,
        history text NOT NULL,
        first_position bigint NOT NULL,
        seen_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (service, shard, ordinal),
        UNIQUE (service, shard, history)
    )""",
    """CREATE TABLE IF NOT EXISTS views.dead_letters (
        view text NOT NULL,
        service text NOT NULL,
        shard smallint NOT NULL,
        record_offset bigint NOT NULL,
        headers jsonb NOT NULL,
        value bytea,
        cause text NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (view, service, shard, record_offset)
    )""",
    """CREATE OR REPLACE VIEW views.live_marks AS
        SELECT m.view, m.version, m.service, m.shard, m.position, m.next_offset, m.history, m.event_time, m.updated_at
        FROM views.marks m JOIN views.versions v USING (view, version) WHERE v.state = 'live'""",
)


class MarkLostError(Exception):
    """A mark is not where this runner left it: another runner owns the version, or it was retired."""


class NoLiveVersionError(LookupError):
    """The view has no live version: ``migrate`` has not run."""


@dataclass(slots=True)
class Mark:
    """How far a version has taken in one shard; ``event_time`` is the time of its last event (microseconds)."""

    position: int = 0
    next_offset: int = 0
    history: str = ""
    event_time: int = 0


@dataclass(frozen=True, slots=True)
class Version:
    """A built copy of a view."""

    view: str
    version: int
    code: int
    state: State
    tables: tuple[str, ...]
    #: Of the tables as they were made, see :func:`projections.ddl.layout`; ``""`` when that was not yet noted.
    layout: str = ""


def lock_key(view: str, version: int) -> str:
    """Name of the advisory lock that a runner holds for each transaction, and that a switch takes to stand it still."""
    return f"nexafi.views/{view}/{version}"


async def versions_of(connection: Connection, view: str) -> list[Version]:
    """All versions of a view that have tables, oldest first. A version's number is never given twice."""
    rows = await connection.fetch(
        "SELECT view, version, code, state, tables, layout FROM views.versions "
        "WHERE view = $1 AND state <> 'dropped' ORDER BY version",
        view,
    )
    return [
        Version(r["view"], r["version"], r["code"], r["state"], tuple(r["tables"]), r["layout"]) for r in rows
    ]


async def live_version(connection: Connection, view: str) -> Version:
    """The version that readers see."""
    for version in await versions_of(connection, view):
        if version.state == "live":
            return version
    raise NoLiveVersionError(f"view {view} has no live version: run `nexafi migrate`")


async def load_marks(
    connection: Connection, view: str, version: int, sources: Iterable[Source]
) -> dict[Source, Mark]:
    """Marks of a version; a shard that is new gets one at position 0."""
    wanted = list(sources)
    await connection.execute(
        """INSERT INTO views.marks (view, version, service, shard)
           SELECT $1, $2, s.service, s.shard FROM unnest($3::text[], $4::int2[]) AS s(service, shard)
           ON CONFLICT DO NOTHING""",
        view,
        version,
        [s for s, _ in wanted],
        [n for _, n in wanted],
    )
    rows = await connection.fetch(
        """SELECT service, shard, position, next_offset, history, event_time
           FROM views.marks WHERE view = $1 AND version = $2 AND NOT retired""",
        view,
        version,
    )
    found = {
        (r["service"], r["shard"]): Mark(r["position"], r["next_offset"], r["history"], r["event_time"])
        for r in rows
    }
    if missing := set(wanted) - set(found):
        raise MarkLostError(f"{view} version {version} was retired ({len(missing)} marks)")
    return {source: found[source] for source in wanted}


async def move_marks(
    connection: Connection, view: str, version: int, moves: Sequence[tuple[Source, Mark, Mark]], runner: str
) -> None:
    """Move marks from the first to the second value; :class:`MarkLostError` when one is not at the first."""
    status = await connection.execute(
        """UPDATE views.marks m
           SET position = u.position, next_offset = u.next_offset, history = u.history,
               event_time = u.event_time, runner = $3, updated_at = now()
           FROM unnest($4::text[], $5::int2[], $6::int8[], $7::int8[], $8::int8[], $9::text[], $10::int8[])
                AS u(service, shard, old, position, next_offset, history, event_time)
           WHERE m.view = $1 AND m.version = $2 AND m.service = u.service AND m.shard = u.shard
             AND m.position = u.old AND NOT m.retired""",
        view,
        version,
        runner,
        [s[0] for s, _, _ in moves],
        [s[1] for s, _, _ in moves],
        [old.position for _, old, _ in moves],
        [new.position for _, _, new in moves],
        [new.next_offset for _, _, new in moves],
        [new.history for _, _, new in moves],
        [new.event_time for _, _, new in moves],
    )
    if status != f"UPDATE {len(moves)}":
        raise MarkLostError(f"{view} version {version}: {status} instead of {len(moves)} marks")
