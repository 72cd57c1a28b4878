"""A service's writer role: FastStream batch subscriber -> :class:`Writer` -> relay and replies.

FastStream owns the consumer's life; where to read from is decided by ``shard_head`` alone, so no offset is
ever committed to Kafka.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from events.decider import Decider
from events.direct import POLL_MS, hand_over
from events.errors import EngineError, HistoryGapError
from events.failpoints import reach
from events.flight import Committed, ShardsLostError
from events.migrations import prepare_months, recorded_shards
from events.producer import new_producer
from events.relay import Relay
from events.replies import ReplySender
from events.store.heads import clock_offset_us
from events.store.recorder import ShardRecorder, open_datastore
from events.topics import check_partitions, commands_topic
from events.watchdog import Watchdog
from events.writer import Record, Writer
from nexafi.memory import settle_heap
from nexafi.role import RoleContext
from nexafi.telemetry import CONSUMER_LAG, RELAY_LAG

S = TypeVar("S")
log = structlog.get_logger(__name__)

TICK_S: Final = 0.02
#: Nothing is in flight: only deadlines are waited for, and five services tick in one process.
IDLE_TICK_S: Final = 0.1
TAKEOVER_RETRY_S: Final = 1.0
#: How often the place for next month's results is looked after.
MONTHS_EVERY_S: Final = 6 * 3600.0
MAX_CLOCK_OFFSET_US: Final = 5_000_000


async def run_writer(ctx: RoleContext, decider: Decider[S]) -> None:
    """Run the writer of a service until ``ctx.stop`` is set, then drain."""
    await WriterService(ctx, decider).run()


class WriterService:
    """One process's share of a service's shards."""

    def __init__(self, ctx: RoleContext, decider: Decider[Any]) -> None:
        self.ctx = ctx
        self.service = decider.service
        settings = ctx.settings
        self.recorder = ShardRecorder(
            open_datastore(settings.database, self.service, pool_size=3), service=self.service
        )
        # linger 0: a batch of commands is one batch of events; waiting longer only adds latency.
        self.producer = new_producer(settings, f"{self.service}-relay")
        self.relay = Relay(self.recorder, self.producer, ctx.health)
        # A producer has one request under way to a broker: a reply must not wait behind events.
        self.answering = new_producer(settings, f"{self.service}-replies")
        self.replies = ReplySender(self.answering)
        owner = f"{settings.instance}/{time.time_ns()}"
        self.writer: Writer[Any] = Writer(
            decider, self.recorder, settings, owner=owner, health=ctx.health, publish=self._published
        )
        self.broker = KafkaBroker(
            settings.kafka, client_id=f"{self.service}-{settings.instance}", logger=None
        )
        self._subscriber: Any = None
        self._takeovers: dict[int, asyncio.Task[None]] = {}
        self._assigned: set[TopicPartition] = set()
        self.watchdog = Watchdog(self.service, ctx.health)

    # ------------------------------------------------------------------ life

    async def run(self) -> None:
        """Connect, consume, drain."""
        health, name = self.ctx.health, f"{self.service}/writer"
        health.expect(name)
        shards = await asyncio.to_thread(recorded_shards, self.ctx.settings, self.service)
        await check_partitions(self.ctx.settings, commands_topic(self.service), shards)
        await self.producer.start()
        await self.answering.start()
        self._subscribe()
        await self.broker.start()
        ticker = asyncio.create_task(self._tick())
        guard = asyncio.create_task(self._guard())
        stop = asyncio.create_task(self.ctx.stop.wait())
        try:
            done, _ = await asyncio.wait([stop, ticker, guard], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stop}:
                task.result()  # a background task ended by itself: say why
        finally:
            for task in (ticker, guard, stop, *self._takeovers.values()):
                task.cancel()
            await asyncio.gather(ticker, guard, stop, *self._takeovers.values(), return_exceptions=True)
            await self._shut_down()

    async def _shut_down(self) -> None:
        await self.broker.stop()
        async with self.writer.lock:
            await self.writer.drop(list(self.writer.shards))
        await self.relay.stop()
        await self.writer.close()
        await self.producer.stop()
        await self.answering.stop()
        await asyncio.to_thread(self.recorder.datastore.close)

    def _subscribe(self) -> None:
        settings = self.ctx.settings
        subscriber = self.broker.subscriber(
            commands_topic(self.service),
            batch=True,
            group_id=f"nexafi.{self.service}",
            # A restart of the same instance keeps its shards without a rebalance (0.1 s against 9 s).
            group_instance_id=f"{self.service}-{settings.instance}",
            session_timeout_ms=6000,
            heartbeat_interval_ms=1000,
            max_records=2 * settings.batch_max_records,  # while one half is decided, the other is looked up
            batch_timeout_ms=POLL_MS,
            fetch_max_wait_ms=500,
            max_partition_fetch_bytes=8 * 1024 * 1024,
            auto_offset_reset="none",
            isolation_level="read_committed",
            ack_policy=AckPolicy.MANUAL,
            listener=_Listener(self),
        )
        hand_over(subscriber, self._on_batch)
        self._subscriber = subscriber

    @property
    def consumer(self) -> AIOKafkaConsumer[bytes, bytes]:
        """The aiokafka consumer under the subscriber."""
        consumer = self._subscriber.consumer
        if consumer is None:
            raise EngineError("the consumer is not running")
        return consumer

    # ------------------------------------------------------------------ records

    async def _on_batch(self, records: Sequence[Record]) -> None:
        """Never raises: with manual acknowledgement FastStream would go on after an error and skip the records."""
        try:
            async with self.writer.lock:
                self._seek(await self.writer.process(records))
            self.watchdog.progress()
        except ShardsLostError as error:
            self._lost(error)
        except Exception as error:
            log.exception("writer failed on a batch", service=self.service)
            await self._start_over(f"{type(error).__name__}: {error}")

    def _published(self, committed: Committed) -> None:
        for shard, outgoing in committed.outgoing.items():
            self.relay.offer(shard, outgoing)
        if committed.replies:
            reach("reply")
            self.replies.send(committed.replies)

    def _seek(self, offsets: dict[int, int]) -> None:
        """Go on where the store says, after batches were discarded."""
        for shard, offset in offsets.items():
            runtime = self.writer.shards.get(shard)
            if runtime is not None:
                # A batch whose commit was not confirmed may be committed all the same; nobody offered its events.
                self.relay.reach_for(shard, runtime.position - 1)
            partition = TopicPartition(commands_topic(self.service), shard)
            if partition in self._assigned:
                self.consumer.seek(partition, offset)

    async def _start_over(self, why: str) -> None:
        """Forget everything about all shards and take them again: memory may be wrong, the store is not."""
        self.ctx.health.bad(f"{self.service}/writer", why)
        self.consumer.pause(*self._assigned)
        async with self.writer.lock:
            await self.writer.drop(list(self.writer.shards))
        self._take_over(self._assigned)

    # ------------------------------------------------------------------ ownership

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Called first thing in the rebalance callback, before anything is awaited."""
        self._assigned = set(partitions)
        self.consumer.pause(*self._assigned)  # without this, records arrive before their shard is loaded
        for partition in self._assigned:
            # Any position: without one the client asks the group for its commit, finds none, and FastStream
            # sleeps five seconds over that error. `_load` seeks to where the shard's head says.
            self.consumer.seek(partition, 0)
        self._take_over(self._assigned)
        if not self._assigned:
            self.ctx.health.ok(f"{self.service}/writer")  # a stand-by is well

    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Let the running batch end, then forget the shards."""
        shards = [p.partition for p in partitions]
        for shard in shards:
            task = self._takeovers.pop(shard, None)
            if task is not None:
                task.cancel()
        async with self.writer.lock:
            await self.writer.drop(shards)
        await self.relay.close(shards)
        self._assigned -= set(partitions)

    def _lost(self, error: ShardsLostError) -> None:
        """Fenced: do not touch these shards. If the group still says that they are ours, ask again later."""
        self._seek(error.kept)
        shards = error.shards
        partitions = [TopicPartition(commands_topic(self.service), s) for s in shards]
        mine = [p for p in partitions if p in self._assigned]
        if mine:
            self.consumer.pause(*mine)
            self._take_over(mine, delay_s=10.0)
        for shard in shards:
            self.ctx.health.bad(f"{self.service}/{shard}", "fenced: another owner has taken this shard")

    def _take_over(self, partitions: Iterable[TopicPartition], *, delay_s: float = 0.0) -> None:
        wanted = list(partitions)
        if not wanted:
            return
        task = asyncio.create_task(self._acquire(wanted, delay_s))
        for partition in wanted:
            old = self._takeovers.get(partition.partition)
            if old is not None:
                old.cancel()
            self._takeovers[partition.partition] = task

    async def _acquire(self, partitions: list[TopicPartition], delay_s: float) -> None:
        health, name = self.ctx.health, f"{self.service}/writer"
        await asyncio.sleep(delay_s)
        while True:
            mine = [p for p in partitions if p in self._assigned]
            if not mine:
                return
            try:
                await self._load(mine)
                health.ok(name)
                for p in mine:
                    health.ok(f"{self.service}/{p.partition}")
                return
            except Exception as error:
                # Errors in a rebalance callback are swallowed by the client: the partitions stay paused, try again.
                health.bad(name, f"{type(error).__name__}: {error}")
                log.exception(
                    "could not take shards over", service=self.service, shards=[p.partition for p in mine]
                )
                await asyncio.sleep(TAKEOVER_RETRY_S)

    async def _load(self, partitions: list[TopicPartition]) -> None:
        async with self.writer.lock:
            shards = sorted(p.partition for p in partitions)
            started = time.perf_counter()
            heads = await self.writer.take(shards)
            try:
                await self._check_kafka(
                    {TopicPartition(commands_topic(self.service), h.shard): h.next_offset for h in heads}
                )
            except HistoryGapError:
                for shard in shards:
                    self.writer.shards.pop(shard, None)
                raise
            for head in heads:
                await self.relay.open(head.shard, head.history, head.next_position - 1)
                self.consumer.seek(TopicPartition(commands_topic(self.service), head.shard), head.next_offset)
            self.consumer.resume(*partitions)
            settle_heap()
            log.info(
                "shards acquired",
                service=self.service,
                shards=shards,
                epochs=[h.epoch for h in heads],
                seconds=round(time.perf_counter() - started, 3),
            )

    async def _check_kafka(self, offsets: dict[TopicPartition, int]) -> None:
        """Refuse to start on a topic that lost records which were never decided, or that was made anew."""
        beginnings = await self.consumer.beginning_offsets(list(offsets))
        ends = await self.consumer.end_offsets(list(offsets))
        for partition, offset in offsets.items():
            where = f"{partition.topic}[{partition.partition}]"
            if beginnings[partition] > offset:
                gone = beginnings[partition] - offset
                raise HistoryGapError(
                    f"{where}: {gone} undecided records are gone (retention); next was {offset}"
                )
            if ends[partition] < offset:
                gone = offset - ends[partition]
                raise HistoryGapError(
                    f"{where}: ends at {ends[partition]}, {gone} records below what was decided: not the same topic"
                )

    # ------------------------------------------------------------------ background

    async def _tick(self) -> None:
        """Deadlines, and batches in flight that nobody waits for."""
        while True:
            await asyncio.sleep(TICK_S if self.writer.in_flight else IDLE_TICK_S)
            if self.writer.lock.locked():
                continue
            try:
                async with self.writer.lock:
                    if self.writer.finished:
                        self._seek(await self.writer.settle())
                    self._seek(await self.writer.run_due())
            except ShardsLostError as error:
                self._lost(error)

    async def _guard(self) -> None:
        """Clock, progress and figures, every few seconds."""
        health = self.ctx.health
        months_at = time.monotonic() + MONTHS_EVERY_S
        while True:
            await asyncio.sleep(2.0)
            if time.monotonic() >= months_at:
                months_at = time.monotonic() + MONTHS_EVERY_S
                await self._prepare_months()
            try:
                offset = await asyncio.to_thread(clock_offset_us, self.recorder, time.time_ns() // 1000)
                if abs(offset) > MAX_CLOCK_OFFSET_US:
                    health.bad(
                        f"{self.service}/clock", f"this clock is {offset / 1e6:+.1f} s from the database's"
                    )
                else:
                    health.ok(f"{self.service}/clock")
            except Exception as error:  # noqa: BLE001 -- shown in health, tried again
                health.bad(f"{self.service}/clock", f"can not compare with the database: {error}")
                continue
            await self._watch()
            RELAY_LAG.set(self.relay.lag, {"service": self.service})
            stats = self.writer.stats
            health.details[self.service] = {
                "shards": sorted(self.writer.shards),
                "commands": stats.commands,
                "events": stats.events,
                "batches": stats.batches,
                "duplicates": stats.duplicates,
                "dead_letters": stats.dead_letters,
                "recoveries": stats.recoveries,
                "seconds": {
                    "deciding": round(stats.decide_s, 3),
                    "committing": round(stats.commit_s, 3),
                    "looking up": round(stats.lookup_s, 3),
                },
                "fenced": stats.fenced,
                "relay_lag": self.relay.lag,
                "published": self.relay.published,
            }

    async def _prepare_months(self) -> None:
        try:
            await asyncio.to_thread(prepare_months, self.ctx.settings, self.service)
        except Exception:
            log.exception("next month's partition of results is not there yet", service=self.service)

    async def _watch(self) -> None:
        offsets = {  # a shard that waits for newer code makes no progress, and starting anew would not help it
            TopicPartition(commands_topic(self.service), s): r.offset
            for s, r in self.writer.shards.items()
            if s not in self.writer.waiting
        }
        if not offsets:
            return
        try:
            ends = await asyncio.wait_for(self.consumer.end_offsets(list(offsets)), 5.0)
        except Exception as error:  # noqa: BLE001 -- shown in health, tried again
            self.ctx.health.bad(
                f"{self.service}/kafka", f"broker does not answer: {type(error).__name__}: {error}"
            )
            return
        self.ctx.health.ok(f"{self.service}/kafka")
        lag = sum(max(0, ends[p] - offset) for p, offset in offsets.items())
        CONSUMER_LAG.set(lag, {"consumer": self.service})
        if self.watchdog.stuck({p: (o, ends[p]) for p, o in offsets.items()}):
            log.error("consumer makes no progress: starting it anew", service=self.service)
            async with self.writer.lock:
                await self.writer.drop(list(self.writer.shards))
            await self._subscriber.stop()
            await self._subscriber.start()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Rebalance callbacks."""

    def __init__(self, service: WriterService) -> None:
        self._service = service

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._service.assigned(assigned)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._service.revoked(list(revoked))
