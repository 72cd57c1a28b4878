"""Versions of an index: made, pointed at by the alias, dropped. PostgreSQL says which is live; the alias follows.

Versions and marks of an index stand in the same tables as those of the PostgreSQL views, under the view's name
``search-...``.
"""

from __future__ import annotations

from typing import Any, Final

from elasticsearch import AsyncElasticsearch
from elasticsearch.serializer import OrjsonSerializer

from nexafi.settings import Settings
from projections.marks import Connection, State, Version, versions_of
from projections.search.documents import Index

#: While an index is built nobody searches it: refreshes and replicas come at the switch.
_BUILDING: Final = {"refresh_interval": "-1", "number_of_replicas": 0}


def client_of(settings: Settings, request_timeout_s: float = 30) -> AsyncElasticsearch:
    """A client; the caller closes it."""
    return AsyncElasticsearch(
        settings.elasticsearch,
        request_timeout=request_timeout_s,
        retry_on_timeout=True,
        max_retries=3,
        serializer=OrjsonSerializer(),
    )


async def live_of(connection: Connection, index: Index) -> Version | None:
    """The version that is searched."""
    versions = await versions_of(connection, index.view)
    return next((v for v in versions if v.state == "live"), None)


async def create(
    connection: Connection, client: AsyncElasticsearch, settings: Settings, index: Index, state: State
) -> Version:
    """An empty index of a new version; numbers are never given twice."""
    number = await connection.fetchval(
        """SELECT greatest(coalesce((SELECT max(version) FROM views.versions WHERE view = $1), 0),
                           coalesce((SELECT max(version) FROM views.marks WHERE view = $1), 0)) + 1""",
        index.view,
    )
    name = index.name(settings, number)
    await client.options(ignore_status=404).indices.delete(index=name)  # of a build that was interrupted
    live = {"number_of_replicas": settings.search_replicas}
    await client.indices.create(
        index=name,
        mappings=dict(index.mappings),
        settings={
            "number_of_shards": 1,
            "index.translog.durability": "async",  # the mirror is made again from PostgreSQL
            **(_BUILDING if state in ("building", "scratch") else live),
        },
    )
    await connection.execute(
        """INSERT INTO views.versions (view, version, code, state, tables, layout, switched_at)
           VALUES ($1, $2, $3, $4, '{}', $5, CASE WHEN $4 = 'live' THEN now() END)""",
        index.view,
        number,
        index.code,
        state,
        index.layout,
    )
    return Version(index.view, number, index.code, state, (), index.layout)


async def ready_to_search(
    client: AsyncElasticsearch, settings: Settings, index: Index, version: Version
) -> None:
    """Refreshes and replicas as a live index has them."""
    name = index.name(settings, version.version)
    await client.indices.put_settings(
        index=name, settings={"refresh_interval": None, "number_of_replicas": settings.search_replicas}
    )
    await client.indices.refresh(index=name)


async def point_alias(client: AsyncElasticsearch, settings: Settings, index: Index, version: Version) -> None:
    """Let the alias name this version only, in one step."""
    alias, name = index.alias(settings), index.name(settings, version.version)
    found = await client.options(ignore_status=404).indices.get_alias(name=alias)
    others = [] if found.meta.status == 404 else [n for n in found.body if n != name]
    actions: list[dict[str, Any]] = [{"remove": {"index": other, "alias": alias}} for other in others]
    actions.append({"add": {"index": name, "alias": alias}})
    await client.indices.update_aliases(actions=actions)


async def sweep(
    connection: Connection, client: AsyncElasticsearch, settings: Settings, index: Index
) -> list[str]:
    """Delete indices under this alias' name of which PostgreSQL knows nothing; their names."""
    known = {index.name(settings, v.version) for v in await versions_of(connection, index.view)}
    found = await client.indices.get(
        index=f"{index.alias(settings)}-v*", allow_no_indices=True, filter_path="*.aliases"
    )
    lost = sorted(set(found.body) - known)
    for name in lost:
        await client.options(ignore_status=404).indices.delete(index=name)
    return lost


async def drop(
    connection: Connection, client: AsyncElasticsearch, settings: Settings, index: Index, version: Version
) -> None:
    """Remove a version that nobody searches."""
    assert version.state != "live", "the live version is never dropped"
    name = index.name(settings, version.version)
    await client.options(ignore_status=404).indices.delete(index=name)
    async with connection.transaction():
        await connection.execute(
            "DELETE FROM views.marks WHERE view = $1 AND version = $2", index.view, version.version
        )
        await connection.execute(
            "UPDATE views.versions SET state = 'dropped' WHERE view = $1 AND version = $2",
            index.view,
            version.version,
        )
