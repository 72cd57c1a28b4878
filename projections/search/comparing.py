"""Whether an index says what its PostgreSQL rows say: both are read in the order of their keys and merged.

Rows go on changing meanwhile, so what differs is looked at again when the index has come as far as the rows were;
a document that then still differs has drifted.
"""

# ruff: noqa: S608 - tables and keys are declared in this package, never input
from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
from elasticsearch import AsyncElasticsearch
from sqlalchemy.ext.asyncio import AsyncEngine
from xxhash import xxh64_intdigest

from nexafi.database import driver
from nexafi.settings import Settings
from projections.digests import MAX_NAMED, Comparison, RowDifference
from projections.marks import Version
from projections.search.documents import Document, Index
from projections.search.feed import Feeder

PAGE: Final = 1_000
#: Suspects are kept in memory up to so many; more is a broken index, and the first ones say enough.
MAX_SUSPECTS: Final = 10_000
_CATCH_UP_S: Final = 30.0
_POLL_S: Final = 0.05
_MASK: Final = 2**64 - 1

#: Document and external version.
Held = tuple[Document, int]


@dataclass
class Digest:
    """Number of documents and the sum of their hashes modulo 2**64: equal for equal sets, whatever the order."""

    documents: int = 0
    sum: int = 0

    def add(self, document: Document, version: int) -> None:
        """Count one document in."""
        self.documents += 1
        text = orjson.dumps([document, version], option=orjson.OPT_SORT_KEYS)
        self.sum = (self.sum + xxh64_intdigest(text)) & _MASK

    def __str__(self) -> str:
        return f"{self.documents}:{self.sum:016x}"


class Comparer:
    """Compares one version of an index with the live rows behind it."""

    def __init__(
        self,
        settings: Settings,
        index: Index,
        version: Version,
        engine: AsyncEngine,
        client: AsyncElasticsearch,
    ) -> None:
        self._index = index
        self._version = version
        self._name = index.name(settings, version.version)
        self._engine = engine
        self._client = client
        self.digest = Digest()

    async def compare(self, feed: Feeder | None = None) -> Comparison:
        """What differs, in a :class:`Comparison` whose first side is the index and whose second the rows.

        ``feed`` brings a version up to date that no mirror feeds.
        """
        suspects = [owner async for owner in self._suspects()]
        for _ in range(3):
            if not suspects:
                break
            await self._caught_up(feed)
            suspects = await self._still_different(suspects)
        result = Comparison(rows=self.digest.documents, digest=f"{self._index.view}:{self.digest}")
        for owner in suspects:
            for difference in await self._differences(owner):
                result.counts[self._index.view] = result.counts.get(self._index.view, 0) + 1
                if len(result.differences) < MAX_NAMED:
                    result.differences.append(difference)
        return result

    async def digest_only(self) -> Digest:
        """Digest of all that the index holds, without looking at the rows."""
        digest = Digest()
        async for _, (document, version) in self._documents():
            digest.add(document, version)
        return digest

    # ------------------------------------------------------------------ reading both sides in order

    async def _documents(self) -> AsyncIterator[tuple[str, Held]]:
        await self._client.indices.refresh(index=self._name)
        pit = (await self._client.open_point_in_time(index=self._name, keep_alive="2m")).body["id"]
        after: list[Any] | None = None
        try:
            while True:
                found = await self._client.search(
                    pit={"id": pit, "keep_alive": "2m"},
                    size=PAGE,
                    sort=[{"owner": "asc"}, {"ordinal": "asc"}],
                    version=True,
                    track_total_hits=False,
                    search_after=after,
                )
                pit = found["pit_id"]
                hits = found["hits"]["hits"]
                for hit in hits:
                    yield hit["_source"]["owner"], (hit["_source"], hit["_version"])
                if len(hits) < PAGE:
                    return
                after = hits[-1]["sort"][:2]
        finally:
            await self._client.options(ignore_status=404).close_point_in_time(id=pit)

    async def _rows(self) -> AsyncIterator[tuple[str, list[Held]]]:
        key, after = self._index.key, "00000000-0000-0000-0000-000000000000"
        query = f"SELECT * FROM views.{self._index.table} WHERE {key} > $1::uuid ORDER BY {key} LIMIT {PAGE}"
        while True:
            async with driver(self._engine) as connection:
                rows = await connection.fetch(query, after)
            for row in rows:
                yield str(row[key]), self._expected(row)
            if len(rows) < PAGE:
                return
            after = str(rows[-1][key])

    def _expected(self, row: Any) -> list[Held]:
        return [(_normal(d), row["version"]) for d in self._index.documents(row)]

    async def _suspects(self) -> AsyncIterator[str]:
        """Owners of which index and rows seem to differ, in order."""
        count = 0
        grouped = _grouped(self._documents(), self.digest)
        rows = self._rows()
        held, row = await _next(grouped), await _next(rows)
        while held is not None or row is not None:
            first, second = held, row
            if second is None or (first is not None and first[0] < second[0]):
                assert first is not None
                different, owner = True, first[0]
                held = await _next(grouped)
            elif first is None or second[0] < first[0]:
                different, owner = True, second[0]
                row = await _next(rows)
            else:
                different, owner = first[1] != second[1], first[0]
                held, row = await _next(grouped), await _next(rows)
            if different:
                yield owner
                count += 1
                if count >= MAX_SUSPECTS:
                    return

    # ------------------------------------------------------------------ looking again

    async def _caught_up(self, feed: Feeder | None) -> None:
        """Wait until the index is as far as its view is now."""
        if feed is not None:
            while await feed.step(refresh=False):
                continue
            await self._client.indices.refresh(index=self._name)
            return
        query = """SELECT bool_and(m.position >= ($3::int8[])[array_position($4::int2[], m.shard)]) FROM views.marks m
                   WHERE m.view = $1 AND m.version = $2 AND m.shard = ANY($4::int2[])"""
        async with driver(self._engine) as connection:
            tops = await connection.fetch(
                "SELECT shard, position FROM views.live_marks WHERE view = $1", self._index.of_view
            )
        deadline = time.monotonic() + _CATCH_UP_S
        wanted = [t["position"] for t in tops], [t["shard"] for t in tops]
        while time.monotonic() < deadline:
            async with driver(self._engine) as connection:
                there = await connection.fetchval(query, self._index.view, self._version.version, *wanted)
            if there in (True, None):
                break
            await asyncio.sleep(_POLL_S)
        await self._client.indices.refresh(index=self._name)

    async def _still_different(self, owners: list[str]) -> list[str]:
        out = []
        for start in range(0, len(owners), PAGE):
            part = owners[start : start + PAGE]
            held, rows = await self._held(part), await self._expected_of(part)
            out += [owner for owner in part if held.get(owner, []) != rows.get(owner, [])]
        return out

    async def _held(self, owners: list[str]) -> dict[str, list[Held]]:
        out: dict[str, list[Held]] = {}
        after: list[Any] | None = None
        while True:
            found = await self._client.search(
                index=self._name,
                query={"terms": {"owner": owners}},
                size=PAGE,
                sort=[{"owner": "asc"}, {"ordinal": "asc"}],
                version=True,
                search_after=after,
            )
            hits = found["hits"]["hits"]
            for hit in hits:
                out.setdefault(hit["_source"]["owner"], []).append((hit["_source"], hit["_version"]))
            if len(hits) < PAGE:
                return out
            after = hits[-1]["sort"]

    async def _expected_of(self, owners: list[str]) -> dict[str, list[Held]]:
        key = self._index.key
        async with driver(self._engine) as connection:
            rows = await connection.fetch(
                f"SELECT * FROM views.{self._index.table} WHERE {key} = ANY($1::uuid[])", owners
            )
        return {str(row[key]): self._expected(row) for row in rows}

    async def _differences(self, owner: str) -> list[RowDifference]:
        held = {d["id"]: (d, v) for d, v in (await self._held([owner])).get(owner, [])}
        rows = {d["id"]: (d, v) for d, v in (await self._expected_of([owner])).get(owner, [])}
        out = []
        for identifier in sorted({*held, *rows}):
            a, b = held.get(identifier), rows.get(identifier)
            if a == b:
                continue
            key = {"id": identifier}
            if b is None:
                out.append(RowDifference(self._index.view, key, "missing"))
            elif a is None:
                out.append(RowDifference(self._index.view, key, "extra"))
            else:
                left, right = a[0] | {"_version": a[1]}, b[0] | {"_version": b[1]}
                columns = {
                    c: (left.get(c), right.get(c)) for c in {*left, *right} if left.get(c) != right.get(c)
                }
                out.append(RowDifference(self._index.view, key, "differs", columns))
        return out


def _normal(document: Document) -> Document:
    """As it comes back from Elasticsearch: the same JSON values."""
    return orjson.loads(orjson.dumps(document))  # type: ignore[no-any-return]


async def _grouped(
    documents: AsyncIterator[tuple[str, Held]], digest: Digest
) -> AsyncIterator[tuple[str, list[Held]]]:
    """Documents of one owner together; all are counted into ``digest``."""
    owner, group = "", list[Held]()
    async for name, held in documents:
        digest.add(*held)
        if name != owner and group:
            yield owner, group
            group = []
        owner = name
        group.append(held)
    if group:
        yield owner, group


async def _next(
    source: AsyncIterator[tuple[str, list[Held]]],
) -> tuple[str, list[Held]] | None:
    return await anext(source, None)
