"""Builds one version of one view: poll, take, fold, commit rows and marks together.

Depth-one pipelining: while batch k commits, k+1 is decoded and folded on the rows that k left in memory. After
any error the memory is worthless and the projector is opened anew from what the database says.
"""

# ruff: noqa: S608 - names of tables and columns are declared in this package, never input
from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

import structlog
from pydantic_core import to_json
from sqlalchemy.ext.asyncio import AsyncEngine

from events.subscription import MAX_RECORDS, Batch, EventStream, RawEvent, Source, trace_parents
from nexafi.database import driver
from nexafi.role import Health
from nexafi.settings import Settings
from nexafi.telemetry import PROJECTION_LAG, batch_span
from projections import ddl
from projections.folding import Decoded, FoldError, decode, fold, prepare
from projections.histories import Histories, load_histories, record_history
from projections.intake import Intake, take
from projections.marks import Connection, Mark, MarkLostError, load_marks, lock_key, move_marks
from projections.unit import Change, Unit
from projections.view import Key, View
from schemas.common.envelope import micros

log = structlog.get_logger(__name__)

#: Of a runner's sessions. A projection can always be made again from Kafka, so a commit need not wait for the
#: disk: rows and marks are lost together. A runner that is stopped in the middle gives its locks back.
SESSION: Final = {
    "synchronous_commit": "off",
    "idle_in_transaction_session_timeout": "15s",
    "lock_timeout": "20s",
}
#: Connections that an open projector holds: one that reads, one that writes.
CONNECTIONS: Final = 2
_NOTHING_COMES_S: Final = 60.0
#: Of a view's polls while events come one by one; a request to Kafka for each of them would cost more than the event.
PACE_S: Final = 0.04


class Projector:
    """One version of one view in this process. Not safe for concurrent use.

    ``name`` is the prefix of its conditions in health; ``limits`` (set by who builds a version beside the live
    one) are positions at which each shard stops exactly.
    """

    def __init__(
        self,
        settings: Settings,
        view: View,
        version: int,
        engine: AsyncEngine,
        health: Health,
        *,
        name: str,
        max_records: int = 2 * MAX_RECORDS,
    ) -> None:
        self.view = view
        self.version = version
        self.health = health
        self.name = name
        self.max_records = max_records
        self.runner = f"{settings.instance}/{time.time_ns()}"
        self.stream = EventStream(
            settings, view.services, health, name=name, max_records=max_records, pace_s=PACE_S
        )
        #: After the last folded event; what is committed follows by one batch at most.
        self.marks: dict[Source, Mark] = {}
        self.committed: dict[Source, Mark] = {}
        self.limits: Mapping[Source, int] | None = None
        self.stopped: dict[Source, int] = {}  # shard -> position before the event that can not be taken in
        self.stopped_by: dict[Source, str] = {}
        self.gaps: dict[Source, str] = {}
        self._engine = engine
        self._unit = Unit(view.tables)
        self._histories = Histories()
        self._pending: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()
        self._open: list[Connection] = []
        self._reading: Connection
        self._writing: Connection

    # ------------------------------------------------------------------ life

    async def open(self) -> None:
        """Read marks, then begin to read Kafka at them."""
        self._reading = await self._connect()
        self._writing = await self._connect()
        for table in self.view.tables:
            for statement in ddl.stage(table, self.version):
                await self._writing.execute(statement)
        self.marks = await load_marks(self._reading, self.view.name, self.version, self.stream.sources)
        self.committed = dict(self.marks)
        self._histories = await load_histories(self._reading)
        for source, mark in list(self.marks.items()):
            if self._histories.overtaken(source, mark.history, mark.position):
                await self._rewind(source)
        for source, mark in self.marks.items():
            self.stream.seek(source, mark.next_offset)
        await self.stream.start()

    async def _connect(self) -> Connection:
        connection = await self._stack.enter_async_context(driver(self._engine))
        self._open.append(connection)
        return connection

    async def close(self) -> None:
        """Let the batch in flight end, then leave Kafka and the database."""
        try:
            await self.flush()
        finally:
            await self.stream.stop()
            await self._stack.aclose()

    async def abandon(self) -> None:
        """Leave after an error: nothing in flight is waited for."""
        if self._pending is not None:
            self._pending.cancel()
            await asyncio.gather(self._pending, return_exceptions=True)
            self._pending = None
        await self.stream.stop()
        for connection in self._open:
            connection.terminate()  # it may be in the middle of anything
        await self._stack.aclose()

    # ------------------------------------------------------------------ work

    async def step(self, wait_ms: int = 200) -> int:
        """Take in one poll; the number of events. Raises what makes this projector unusable."""
        batches = await self.stream.poll(wait_ms)
        if not batches:
            await self.flush()
            return 0
        while True:
            intake = take(
                batches, self.marks, self._histories, gaps=self.gaps, limits=self._effective_limits()
            )
            if intake.histories:
                await self._met_histories(intake, batches)
                return 0
            try:
                decoded = decode(self.view, intake.taken)
                await prepare(self.view, self._unit, decoded, self._load)
                fold(self._unit, decoded)
            except FoldError as error:
                await self._stop_shard(error)
                continue
            break
        self._note(intake)
        if intake.marks or intake.unreadable:
            await self._hand_over(intake, decoded)
        if len(intake.taken) < self.max_records // 2:
            await self.flush()  # no flood: a small batch is better made larger by waiting than by hurrying
        return len(intake.taken)

    async def flush(self) -> None:
        """Wait until everything that was folded is committed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            await pending

    def limit(self, limits: Mapping[Source, int] | None) -> None:
        """From now on stop exactly at these positions. Call it with nothing in flight."""
        assert self._pending is None
        self.limits = limits
        for source in self.stream.sources:
            self.stream.seek(source, self.marks[source].next_offset)

    @property
    def at_limits(self) -> bool:
        """Whether every shard stands at its limit."""
        return self.limits is not None and all(
            mark.position >= self.limits.get(source, 0) for source, mark in self.committed.items()
        )

    async def run_to(self, limits: Mapping[Source, int]) -> AsyncIterator[int]:
        """Go exactly to ``limits``; yields the number of events after each poll.

        ``RuntimeError`` when an event can not be taken in, or Kafka does not have what is asked for.
        """
        await self.flush()
        self.limit(limits)
        moved = time.monotonic()
        while not self.at_limits:
            count = await self.step()
            if all(m.position >= limits.get(s, 0) for s, m in self.marks.items()):
                await self.flush()
            yield count
            if self.stopped or self.gaps:
                raise RuntimeError(self.complaint())
            if count:
                moved = time.monotonic()
            elif time.monotonic() - moved > _NOTHING_COMES_S:
                raise RuntimeError(
                    f"nothing came for {_NOTHING_COMES_S:.0f} s: Kafka has fewer events than the marks say"
                )
        await self.flush()

    def complaint(self) -> str:
        """What keeps shards from going on, in words."""
        gaps = [f"{s}/{n}: {text}" for (s, n), text in self.gaps.items()]
        return "; ".join([*self.stopped_by.values(), *gaps])

    # ------------------------------------------------------------------ steps of a step

    def _effective_limits(self) -> Mapping[Source, int] | None:
        if not self.stopped:
            return self.limits
        unlimited = dict.fromkeys(self.stream.sources, 2**62)
        return unlimited | dict(self.limits or {}) | self.stopped

    async def _load(self, table_name: str, keys: list[Key]) -> None:
        table = self.view.table(table_name)
        query = ddl.select_by_keys(table, self.version)
        if len(ddl.key_names(table)) == 1:
            rows = await self._reading.fetch(query, keys)
        else:
            rows = await self._reading.fetch(query, *map(list, zip(*keys, strict=True)))
        self._unit.loaded(table_name, keys, map(dict, rows))

    async def _hand_over(self, intake: Intake, decoded: Sequence[Decoded]) -> None:
        """Start the commit of what was folded, after the one before it."""
        change = self._unit.take()
        moves = [(source, self.marks[source], mark) for source, mark in intake.marks.items()]
        await self.flush()
        self._unit.settle()
        self.marks.update(intake.marks)
        parents = trace_parents(t.event for t in intake.taken) if decoded else []
        self._pending = asyncio.create_task(
            self._commit(change, moves, intake.unreadable, parents), name=f"commit {self.name}"
        )

    async def _commit(
        self,
        change: Change,
        moves: Sequence[tuple[Source, Mark, Mark]],
        unreadable: Sequence[tuple[Source, RawEvent, str]],
        parents: Sequence[str],
    ) -> None:
        connection = self._writing
        with batch_span(f"projection.{self.view.name}", parents):
            async with connection.transaction():
                await self._stand_alone()
                await move_marks(connection, self.view.name, self.version, moves, self.runner)
                await write(connection, change, self.version)
                for source, event, cause in unreadable:
                    await self._dead_letter(source, event, cause)
        newest = 0
        for source, _, mark in moves:
            self.committed[source] = mark
            newest = max(newest, mark.event_time)
        if newest:
            PROJECTION_LAG.set(max(0.0, time.time() - newest / 1e6), {"view": self.view.name})

    async def _stand_alone(self) -> None:
        """Wait for other runners of this version, and for a switch that stands it still."""
        await self._writing.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", lock_key(self.view.name, self.version)
        )

    async def _dead_letter(self, source: Source, event: RawEvent, cause: str) -> None:
        headers = [[k, v.decode("utf-8", "backslashreplace")] for k, v in event.record.headers]
        log.error("unreadable record set aside", view=self.view.name, source=source, offset=event.offset)
        await self._writing.execute(
            """INSERT INTO views.dead_letters (view, service, shard, record_offset, headers, value, cause)
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING""",
            self.view.name,
            source[0],
            source[1],
            event.offset,
            to_json(headers).decode(),
            event.record.value,
            cause,
        )

    def _note(self, intake: Intake) -> None:
        """Times of the last events into the marks, and what is wrong into health."""
        for source, gap in intake.gaps.items():
            if gap is None:
                self.gaps.pop(source, None)
            else:
                self.gaps[source] = gap
        last = {t.source: t for t in intake.taken}
        for source, mark in intake.marks.items():
            event_time = mark.event_time
            if source in last:
                event_time = micros(last[source].event.text("ce_time"))
            intake.marks[source] = replace(mark, event_time=event_time)
        condition = f"{self.name}/events"
        complaint = self.complaint()
        if complaint:
            self.health.bad(condition, complaint)
        else:
            self.health.ok(condition)

    # ------------------------------------------------------------------ what goes wrong

    async def _stop_shard(self, error: FoldError) -> None:
        """Go on without the shard whose event can not be taken in; it waits there for code that can.

        A runner that another one has overtaken reads rows that are ahead of its mark: that is no fault of the event.
        """
        await self.flush()
        now = await load_marks(self._reading, self.view.name, self.version, self.stream.sources)
        if any(now[s].position != mark.position for s, mark in self.committed.items()):
            raise MarkLostError(
                f"{self.view.name} version {self.version}: another runner is ahead"
            ) from error
        log.error("shard stopped", view=self.view.name, version=self.version, error=str(error))
        self._unit = Unit(self.view.tables)
        self.stopped[error.source] = error.position - 1
        self.stopped_by[error.source] = f"stopped before {error}"
        self.stream.pause(error.source)
        self.health.bad(f"{self.name}/events", str(error))

    async def _met_histories(self, intake: Intake, batches: Sequence[Batch]) -> None:
        """Remember new histories; make the shards anew that had taken in what never happened."""
        await self.flush()
        for source, history, first in intake.histories:
            if self._histories.latest(source):
                log.warning(
                    "history changed", view=self.view.name, source=source, history=history, first=first
                )
            await record_history(self._reading, source, history, first)
        self._histories = await load_histories(self._reading)
        for source in intake.rewound:
            await self._rewind(source)
        for batch in batches:
            self.stream.seek(batch.source, self.marks[batch.source].next_offset)

    async def _rewind(self, source: Source) -> None:
        """Take a shard back to its beginning: its rows hold events that a restore undid."""
        log.warning("shard is made anew", view=self.view.name, source=source)
        connection = self._writing
        async with connection.transaction():
            await self._stand_alone()
            old = self.marks[source]
            await move_marks(connection, self.view.name, self.version, [(source, old, Mark())], self.runner)
            for table in self.view.tables:
                extra = "AND service = $2" if "service" in table.columns else "AND $2::text IS NOT NULL"
                name = ddl.qualified(table, self.version)
                await connection.execute(f"DELETE FROM {name} WHERE shard = $1 {extra}", source[1], source[0])
        self.marks[source] = self.committed[source] = Mark()
        self._unit = Unit(self.view.tables)


async def write(connection: Connection, change: Change, version: int) -> None:
    """Write rows inside the caller's transaction: new ones by COPY, changed ones through a staging table."""
    for part in change.tables:
        table = part.table
        name = ddl.table_name(table, version)
        columns = ddl.column_names(table)
        if part.inserted:
            await connection.copy_to_table(
                name, schema_name="views", columns=columns, source=_body(part.insert)
            )
        if part.updated:
            await connection.copy_to_table(f"stage_{name}", columns=columns, source=_body(part.update))
            status = await connection.execute(ddl.update_from_stage(table, version))
            if status != f"UPDATE {part.updated}":
                raise RuntimeError(f"{name}: {status} instead of {part.updated} rows")


async def _body(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1 << 18):
        yield data[start : start + (1 << 18)]
