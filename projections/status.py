"""How each version of each view stands: what `nexafi projections status` shows."""

# ruff: noqa: S608 - names of tables and columns are declared in this package, never input
from __future__ import annotations

from dataclasses import dataclass, replace

import asyncpg

from events.store.tables import schema_name
from nexafi.database import async_engine, driver
from nexafi.settings import Settings
from projections.marks import Connection, Version, versions_of
from projections.registry import VIEWS, newest
from projections.search.documents import INDICES
from projections.search.indices import client_of
from schemas.common.envelope import rfc3339


@dataclass(frozen=True)
class ViewStatus:
    """One version. ``behind`` counts events that its stores have and it has not; ``None`` when a store is not here."""

    view: str
    version: int
    code: int
    newest_code: int
    state: str
    position: int
    behind: int | None
    last_event: str
    rows: int
    dead_letters: int


async def collect(settings: Settings) -> list[ViewStatus]:
    """All versions of all views."""
    engine = async_engine(settings, "status", pool_size=1)
    try:
        async with driver(engine) as connection:
            heads: dict[str, dict[int, int] | None] = {}
            out = []
            for name in VIEWS:
                for service in newest(name).services:
                    if service not in heads:
                        heads[service] = await _heads(connection, service)
                out += [await _status(connection, v, heads) for v in await versions_of(connection, name)]
            out += await _indices(connection, settings)
            return out
    finally:
        await engine.dispose()


async def _indices(connection: Connection, settings: Settings) -> list[ViewStatus]:
    """Versions of the search indices; ``behind`` counts positions of the view that they mirror."""
    client = client_of(settings, request_timeout_s=5)
    out = []
    try:
        for index in INDICES:
            tops = await connection.fetch(
                "SELECT service, shard, position FROM views.live_marks WHERE view = $1", index.of_view
            )
            heads: dict[str, dict[int, int] | None] = {
                service: {t["shard"]: t["position"] for t in tops if t["service"] == service}
                for service in {t["service"] for t in tops}
            }
            for version in await versions_of(connection, index.view):
                name = index.name(settings, version.version)
                found = await client.options(ignore_status=404).count(index=name)
                line = await _status(connection, version, heads, index.code)
                out.append(replace(line, rows=found.body.get("count", 0)))
    finally:
        await client.close()
    return out


async def _heads(connection: Connection, service: str) -> dict[int, int] | None:
    """Last position of each shard of a store, when the store is in this database."""
    try:
        rows = await connection.fetch(
            f'SELECT shard, next_position - 1 AS position FROM "{schema_name(service)}".shard_head'
        )
    except asyncpg.UndefinedTableError:
        return None
    return {r["shard"]: r["position"] for r in rows}


async def _status(
    connection: Connection,
    version: Version,
    heads: dict[str, dict[int, int] | None],
    newest_code: int | None = None,
) -> ViewStatus:
    marks = await connection.fetch(
        "SELECT service, shard, position, event_time FROM views.marks WHERE view = $1 AND version = $2",
        version.view,
        version.version,
    )
    behind: int | None = 0
    for mark in marks:
        head = heads.get(mark["service"])
        if head is None or behind is None:
            behind = None
        else:
            behind += max(0, head.get(mark["shard"], 0) - mark["position"])
    rows = 0
    for table in version.tables:
        rows += await connection.fetchval(f"SELECT count(*) FROM views.{table}_v{version.version}")
    last = max((m["event_time"] for m in marks), default=0)
    dead = await connection.fetchval("SELECT count(*) FROM views.dead_letters WHERE view = $1", version.view)
    return ViewStatus(
        version.view,
        version.version,
        version.code,
        newest(version.view).code if newest_code is None else newest_code,
        version.state,
        sum(m["position"] for m in marks),
        behind,
        rfc3339(last) if last else "never",
        rows,
        dead,
    )
