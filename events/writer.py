"""The writer of a service's shards: decide, append, answer. One instance per process, any number of shards.

Depth-one pipelining: while batch k commits in the writer thread, batch k+1 is decided. Anything but a
confirmed commit throws away memory and every undecided or pipelined batch, and acquires the shards again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any, Generic, TypeAlias, TypeVar

import psycopg
import structlog
from aiokafka import ConsumerRecord
from psycopg_pool import PoolTimeout

from events.codec import BadRecord, CommandCodec, Unit, due_unit
from events.dead_letters import letter_of
from events.decider import Decider, EventMeta, InvariantViolationError
from events.deciding import Answer, ShardBatch, ShardRuntime
from events.errors import (
    AppendDataError,
    ClaimConflictError,
    FencedError,
    UnknownCommandError,
    UnknownCommitError,
    UnreadableRecordError,
)
from events.failpoints import reach
from events.flight import (
    Committed,
    InFlight,
    Item,
    Rows,
    ShardsLostError,
    WriterStats,
    ended,
    known_answers,
)
from events.loading import EventDecoder, load_shard, read_stream
from events.store import reading
from events.store.append import ShardAppend
from events.store.heads import Head, acquire, read_heads
from events.store.isolating import first_refused
from events.store.recorder import ShardRecorder
from events.suspects import Suspects
from nexafi.role import Health
from nexafi.settings import Settings
from nexafi.telemetry import BATCH_SIZE, COMMIT_TIME, batch_span
from schemas.common.base import Event

S = TypeVar("S")
log = structlog.get_logger(__name__)

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"
#: Deadlines acted on before one batch.
MAX_DUE = 500
#: Seconds to wait for a commit whose batch is being discarded; its row lock then decides.
DISCARD_WAIT_S = 5.0
REACQUIRE_ATTEMPTS = 120


#: Errors of a decision that condemn one command.
_BAD_COMMAND = (AppendDataError, InvariantViolationError, ArithmeticError, LookupError, TypeError, ValueError)
#: Errors after which memory is discarded and the shards are acquired again.
_UNCONFIRMED = (UnknownCommitError, AppendDataError, ClaimConflictError, FencedError, psycopg.Error)


class Writer(Generic[S]):
    """Owns shards of one service. All methods run in one event loop; blocking work in two threads."""

    def __init__(
        self,
        decider: Decider[S],
        recorder: ShardRecorder,
        settings: Settings,
        *,
        owner: str,
        health: Health,
        publish: Callable[[Committed], None],
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.decider = decider
        self.recorder = recorder
        self.settings = settings
        self.owner = owner
        self.health = health
        self.shards: dict[int, ShardRuntime[S]] = {}
        self.lock = asyncio.Lock()
        self.stats = WriterStats()
        self._publish = publish
        self._clock = clock
        self._codec = CommandCodec(decider.service, decider.commands)
        self._hmac_key = settings.hmac_key.get_secret_value().encode()
        self._threads = ThreadPoolExecutor(3, thread_name_prefix=f"{decider.service}-store")
        self.in_flight: InFlight | None = None
        #: Answers of the batch that was committed last: it may have been in flight when the next one was looked up.
        self._settled: dict[bytes, Answer] = {}
        #: Shards that wait for newer code, and for which command.
        self.waiting: dict[int, str] = {}
        self._suspects = Suspects(settings.batch_max_records)
        self._labels = {"service": decider.service}
        self._decoder: EventDecoder[S] = EventDecoder(decider)

    # ------------------------------------------------------------------ ownership

    async def take(self, shards: Sequence[int]) -> list[Head]:
        """Acquire shards and load their state. Call before reading anything from them."""
        heads: list[Head] = await self._run(acquire, self.recorder, shards, self.owner)
        for head in heads:
            loaded = await self._run(load_shard, self.recorder, self.decider, head)
            self.shards[head.shard] = ShardRuntime.of(head, loaded.state, loaded.snapshot_position)
            self.waiting.pop(head.shard, None)  # the command is read again, and says again what it is
        return heads

    async def drop(self, shards: Iterable[int]) -> None:
        """Forget shards after the batch in flight has ended."""
        try:
            await self._settle()
        except _UNCONFIRMED as error:
            log.warning("a batch in flight did not commit while shards were given up", error=str(error))
        for shard in shards:
            self.shards.pop(shard, None)

    async def close(self) -> None:
        """End: wait for the batch in flight, release threads."""
        await self.drop(list(self.shards))
        self._threads.shutdown(wait=True)

    # ------------------------------------------------------------------ batches

    async def process(self, records: Sequence[Record]) -> dict[int, int]:
        """Decide and append records. Returns ``{}``, or the offsets to seek to when batches were discarded.

        Raises :class:`ShardsLostError` when another owner has taken shards.
        """
        items = self._read(records)
        ahead: asyncio.Task[Rows] | None = None
        try:
            while items:
                bound = self._suspects.bound
                batch, items = items[:bound], items[bound:]
                rows = await (ahead or self._stored(batch))
                # The next batch is looked up while this one is decided; what it may miss is remembered.
                ahead = asyncio.create_task(self._stored(items[:bound])) if items else None
                await self._step(batch, rows)
                if self._suspects.grow(bound):
                    # Bad commands are about: one batch at a time.
                    await self._settle()
                    await ended(ahead)  # it may be a batch of another size now
                    ahead = None
            return {}
        except _UNCONFIRMED as error:
            return await self._recover(error)
        finally:
            await ended(ahead)

    async def run_due(self) -> dict[int, int]:
        """Act on deadlines that have passed, when no records came to do it on the way."""
        now = self._clock()
        if all((due := self.decider.next_due(r.state)) is None or due > now for r in self.shards.values()):
            return {}
        try:
            await self._step([], {})
            return {}
        except _UNCONFIRMED as error:
            return await self._recover(error)

    async def settle(self) -> dict[int, int]:
        """Wait for the batch in flight; recover when it failed."""
        try:
            await self._settle()
            return {}
        except _UNCONFIRMED as error:
            return await self._recover(error)

    @property
    def finished(self) -> bool:
        """Whether a batch in flight has ended and nobody has looked at its outcome."""
        return self.in_flight is not None and self.in_flight.task.done()

    def _read(self, records: Sequence[Record]) -> list[Item]:
        items: list[Item] = []
        for record in records:
            runtime = self.shards.get(record.partition)
            # Never test offsets for equality: transaction markers leave holes.
            if runtime is None or record.offset < runtime.offset or record.partition in self.waiting:
                continue
            try:
                items.extend(self._codec.decode(record))
            except UnreadableRecordError as error:
                items.append(BadRecord(record.partition, record.offset, record, error))
            except UnknownCommandError as error:
                self.waiting[record.partition] = str(error)
                self.health.bad(
                    f"{self.decider.service}/{record.partition}", f"waits for newer code: {error}"
                )
                log.error("shard waits for newer code", service=self.decider.service, shard=record.partition)
        return items

    async def _step(self, items: list[Item], rows: Rows) -> None:
        flying = self.in_flight.answers if self.in_flight is not None else {}
        known = known_answers(items, rows, (self._settled, flying))
        started = time.perf_counter()
        batches = await self._decide(items, known)
        self.stats.decide_s += time.perf_counter() - started
        await self._settle()
        if batches:
            self._begin_commit(batches, items)

    async def _stored(self, items: Sequence[Item]) -> Rows:
        """Stored results of commands among ``items``."""
        asked = [item.id_bytes for item in items if isinstance(item, Unit)]
        if not asked:
            return {}
        started = time.perf_counter()
        rows: Rows = await self._run(reading.results, self.recorder, asked)
        self.stats.lookup_s += time.perf_counter() - started
        return rows

    async def _decide(self, items: Sequence[Item], known: dict[bytes, Answer]) -> list[ShardBatch[S]]:
        now = self._clock()
        causes: dict[int, int] = {}
        touched = set()
        for item in items:
            touched.add(item.shard)
            if isinstance(item, Unit) and item.envelope.time_us:
                causes[item.shard] = max(causes.get(item.shard, 0), item.envelope.time_us + 1)
        batches: dict[int, ShardBatch[S]] = {}
        for shard, runtime in self.shards.items():
            due = self.decider.next_due(runtime.state)
            if shard in touched or (due is not None and due <= now):
                batch = ShardBatch(self.decider, runtime, max(now, causes.get(shard, 0)), self._hmac_key)
                batches[shard] = batch
                if due is not None and due <= batch.now_us:
                    await self._decide_due(batch)
        for item in items:
            batch = batches[item.shard]
            if isinstance(item, BadRecord):
                batch.set_aside(letter_of(item.record, item.error), None)
                batch.pass_offset(item.offset)
                self.stats.dead_letters += 1
                continue
            answer = known.get(item.id_bytes) or batch.answers.get(item.id_bytes)
            if answer is not None:
                self.stats.duplicates += 1
                batch.duplicate(item, answer)
            else:
                self.stats.commands += 1
                if self.decider.needs(item.command, batch.runtime.state):
                    await self._hydrate(batch, item)
                self._decide_new(batch, item)
            if item.ends_record:
                batch.pass_offset(item.offset)
        return [b for b in batches.values() if not b.empty]

    def _decide_new(self, batch: ShardBatch[S], unit: Unit) -> None:
        record = unit.record
        assert record is not None
        if (refusal := self._suspects.refusal(unit)) is not None:
            batch.refuse(unit, refusal)
            return
        try:
            if (poison := self._suspects.poison(unit)) is not None:
                raise poison
            batch.decide(unit)
        except _BAD_COMMAND as error:
            # decide() is pure and check_events() comes before evolve(): nothing has changed, only this command is bad.
            if all(letter.error != type(error).__name__ for letter in batch.dead_letters):
                # Where it failed: of a flood of bad ones the first says it for all.
                log.exception("command set aside", service=self.decider.service, command=unit.envelope.id)
            batch.set_aside(letter_of(record, error, item=unit.item, command_id=unit.envelope.id), unit)
            self.stats.dead_letters += 1

    async def _decide_due(self, batch: ShardBatch[S]) -> None:
        runtime = batch.runtime
        for due in self.decider.due(runtime.state, batch.now_us, MAX_DUE):
            if due.command_id in runtime.refused_due or self._suspects.is_bad_deadline(due.command_id):
                continue
            unit = due_unit(runtime.shard, due, batch.now_us, self.decider.service)
            before = len(batch.rows)
            if self.decider.needs(unit.command, runtime.state):
                await self._hydrate(batch, unit)
            batch.decide(unit)
            if len(batch.rows) == before:
                # A deadline that changes nothing would come back for ever.
                runtime.refused_due.add(due.command_id)

    async def _hydrate(self, batch: ShardBatch[S], unit: Unit) -> None:
        """Give the domain the closed streams that it asks for: committed, in flight and in this batch."""
        for stream in self.decider.needs(unit.command, batch.runtime.state):
            flying = (
                self.in_flight.outgoing.get(batch.runtime.shard, []) if self.in_flight is not None else []
            )
            history: list[tuple[Event, EventMeta]] = await self._run(
                read_stream, self.recorder, self.decider, stream
            )
            seen = history[-1][1].version if history else 0
            for out in (*flying, *batch.outgoing):
                if out.stream == stream and out.version > seen:
                    event = self._decoder.decode(out.topic, out.state)
                    if event is not None:
                        history.append((event, out.meta()))
                        seen = out.version
            if history:
                self.decider.hydrate(batch.runtime.state, stream, history)

    # ------------------------------------------------------------------ commit

    def _begin_commit(self, batches: Sequence[ShardBatch[S]], items: list[Item]) -> None:
        appends = [b.finish(self.settings.snapshot_every) for b in batches]
        answers: dict[bytes, Answer] = {}
        for b in batches:
            answers.update(b.answers)
        task = asyncio.create_task(self._commit(batches, appends))
        self.in_flight = InFlight(
            task, answers, {b.runtime.shard: b.outgoing for b in batches}, items, appends
        )

    async def _commit(self, batches: Sequence[ShardBatch[S]], appends: Sequence[ShardAppend]) -> None:
        started = time.perf_counter()
        with batch_span(
            f"{self.decider.service}.append", (o.traceparent for b in batches for o in b.outgoing)
        ):
            await self._run(self.recorder.append, appends)
        reach("commit")
        took = time.perf_counter() - started
        self.stats.commit_s += took
        COMMIT_TIME.record(took, self._labels)
        BATCH_SIZE.record(sum(len(a.results) for a in appends), self._labels)
        self.stats.batches += 1
        self.stats.events += sum(len(a.rows) for a in appends)
        self._publish(
            Committed(
                {b.runtime.shard: b.outgoing for b in batches if b.outgoing},
                {b.runtime.shard: b.runtime.history for b in batches},
                [r for b in batches for r in b.replies],
            )
        )
        for b, a in zip(batches, appends, strict=True):
            if b.snapshot is not None:
                digest = sha256(b.snapshot).digest()
                snapshot = reading.Snapshot(
                    a.shard, a.next_position - 1, self.decider.state_version, digest, a.chain_hash, b.snapshot
                )
                await self._run(reading.save_snapshot, self.recorder, snapshot)

    async def _settle(self) -> None:
        if self.in_flight is not None:
            flight = self.in_flight
            try:
                await flight.task
                self._settled = flight.answers
            except AppendDataError as error:
                await self._isolate(flight, error)
                raise
            finally:
                self.in_flight = None

    async def _isolate(self, flight: InFlight, error: AppendDataError) -> None:
        """Find the command that the database refuses. While it can not be asked, halves find it, slowly."""
        bad = None
        try:
            bad = await self._run(first_refused, self.recorder, flight.appends)
        except (psycopg.Error, PoolTimeout) as failure:
            why = str(failure)
            log.warning("could not look for the bad command", service=self.decider.service, error=why)
        if (deadline := self._suspects.refused(flight.units, bad, error)) is not None:
            log.error("deadline set aside", service=self.decider.service, command=deadline, error=str(error))

    # ------------------------------------------------------------------ recovery

    async def _recover(self, error: Exception) -> dict[int, int]:
        """Discard memory; waiting for the row locks settles what happened. Returns where to read on."""
        self.stats.recoveries += 1
        why = str(error)[:500]
        log.warning("batch not confirmed: acquiring again", service=self.decider.service, error=why)
        if isinstance(error, ClaimConflictError):
            self._suspects.lost_claims(error.owners)
        if self.in_flight is not None:
            flight, self.in_flight = self.in_flight, None
            await asyncio.wait([flight.task], timeout=DISCARD_WAIT_S)
            flight.task.cancel()
        mine = {s: r.epoch for s, r in self.shards.items()}
        self.shards.clear()
        self._settled = {}
        for attempt in range(1, REACQUIRE_ATTEMPTS + 1):
            try:
                return await self._reacquire(mine)
            except (psycopg.Error, PoolTimeout) as failure:
                self.health.bad(f"{self.decider.service}/store", f"the database is away: {failure}")
                log.warning("database away; trying again", service=self.decider.service, attempt=attempt)
                await asyncio.sleep(min(2.0, 0.1 * attempt))
        raise ShardsLostError(mine)

    async def _reacquire(self, mine: dict[int, int]) -> dict[int, int]:
        heads = await self._run(read_heads, self.recorder)
        lost = sorted(h.shard for h in heads if h.shard in mine and h.epoch != mine[h.shard])
        if keep := [s for s in mine if s not in lost]:
            for head in await self.take(keep):
                if head.epoch != mine[head.shard] + 1:
                    lost.append(head.shard)  # somebody came between the look and the bump
                    self.shards.pop(head.shard, None)
        self.health.ok(f"{self.decider.service}/store")
        if lost:
            self.stats.fenced += len(lost)
            log.error(
                "fenced: another owner has taken these shards", service=self.decider.service, shards=lost
            )
            raise ShardsLostError(lost, {s: r.offset for s, r in self.shards.items()})
        return {s: r.offset for s, r in self.shards.items()}

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
