"""Drives a real writer process of the counter service on real servers, and reads what came of it."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition

from events.migrations import migrate
from events.producer import CommandProducer
from events.replies import ReplyListener
from events.topics import ensure_topics, events_topic
from nexafi.ids import command_id, partition_for, shard_of
from nexafi.settings import Settings
from schemas.common.base import Command
from schemas.common.envelope import CommandEnvelope, EventEnvelope
from schemas.common.outcomes import CommandResult
from tests.kit.counter_service import run
from tests.kit.processes import Process


class Engine:
    """One counter service with its own database and topics; processes come and go."""

    def __init__(self, settings: Settings, service: str) -> None:
        self.settings = settings
        self.service = service
        self.producer = CommandProducer(settings)
        self.replies = ReplyListener(settings)
        self._processes: list[Process] = []

    @classmethod
    async def create(cls, stack: Settings, database_url: str, *, shards: int = 2, **overrides: Any) -> Engine:
        """Make the store and the topics, and listen for replies."""
        service = f"c{secrets.token_hex(4)}"
        settings = stack.model_copy(
            update={
                "database_url": database_url,
                "shards": {service: shards},
                "instance": f"test-{service}",
                **overrides,
            }
        )
        await asyncio.to_thread(migrate, settings, (service,))
        await ensure_topics(settings, (service,))
        engine = cls(settings, service)
        await engine.producer.start()
        await engine.replies.start()
        return engine

    async def close(self) -> None:
        """End what was started."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        await self.replies.stop()
        await self.producer.stop()

    # ------------------------------------------------------------------ processes

    def spawn(self, instance: str = "one", *, failpoint: str = "", log: Path | None = None) -> Process:
        """Start a writer process of this service."""
        env = dict(os.environ)
        env |= {
            "NEXAFI_DATABASE_URL": self.settings.database,
            "NEXAFI_KAFKA_BOOTSTRAP": self.settings.kafka,
            "NEXAFI_INSTANCE": instance,
            "NEXAFI_SHARDS": orjson.dumps(self.settings.shards).decode(),
            "NEXAFI_SNAPSHOT_EVERY": str(self.settings.snapshot_every),
            "NEXAFI_FAILPOINT": failpoint,
        }
        process = Process(run, self.service, env=env, log=log)
        self._processes.append(process)
        return process

    # ------------------------------------------------------------------ commands

    async def send(
        self,
        command: Command,
        key: str,
        *,
        shard: int | None = None,
        request_hash: str = "aa",
        wait_s: float = 90.0,
    ) -> CommandResult | None:
        """Send a command and wait for its reply, then for its stored result; ``None`` is unknown."""
        cid = command_id("acme", "tester", "POST", f"/{command.TYPE}", key)
        if shard is None:
            counter = getattr(command, "counter_id", None)
            shard = (
                shard_of(counter) if counter else partition_for(cid, self.settings.shard_count(self.service))
            )
        envelope = CommandEnvelope(
            cid,
            command.TYPE,
            "acme",
            "tester",
            request_hash,
            self.replies.address,
            time_us=time.time_ns() // 1000,
        )
        future = self.replies.expect(cid)
        try:
            await self.producer.send(self.service, shard, envelope, command.model_dump_json().encode())
            deadline = time.monotonic() + wait_s
            while time.monotonic() < deadline:
                try:
                    return await asyncio.wait_for(asyncio.shield(future), 1.0)
                except TimeoutError:
                    stored = await asyncio.to_thread(self.stored_result, cid)
                    if stored is not None:
                        return stored
            return None
        finally:
            self.replies.forget(cid)

    # ------------------------------------------------------------------ reading

    def query(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        """Rows from the service's schema (``{s}`` stands for it)."""
        with psycopg.connect(self.settings.database) as conn:
            return conn.execute(statement.replace("{s}", f'"{self.service}"'), params).fetchall()

    def query_write(self, statement: str, *params: object) -> None:
        """Change rows behind the engine's back."""
        with psycopg.connect(self.settings.database) as conn:
            conn.execute(statement.replace("{s}", f'"{self.service}"'), params)

    def log_file(self, name: str = "writer") -> Path:
        """A fresh file for a process's output."""
        return Path(tempfile.mkdtemp(prefix="engine-")) / f"{name}.log"

    def stored_result(self, cid: str) -> CommandResult | None:
        """The stored answer of a command."""
        rows = self.query(
            "SELECT outcome, shard, position, result FROM {s}.command_results WHERE command_id = %s", cid
        )
        if not rows:
            return None
        outcome, shard, position, result = rows[0]
        return CommandResult(
            command_id=cid,
            outcome="rejected" if outcome else "accepted",
            service=self.service,
            shard=shard,
            position=position,
            result=orjson.loads(result),
        )

    async def published(self) -> list[tuple[EventEnvelope, bytes]]:
        """Everything on the events topic, in order of partition and offset."""
        consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka, enable_auto_commit=False, isolation_level="read_committed"
        )
        partitions = [
            TopicPartition(events_topic(self.service), s)
            for s in range(self.settings.shard_count(self.service))
        ]
        consumer.assign(partitions)
        await consumer.start()
        try:
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            out: list[tuple[EventEnvelope, bytes]] = []
            while any([await consumer.position(p) < ends[p] for p in partitions]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    out.extend((EventEnvelope.read(r.headers), r.value or b"") for r in records)
            return sorted(out, key=lambda e: e[0].shard)
        finally:
            await consumer.stop()

    async def relay_settled(self, timeout_s: float = 90.0) -> None:
        """Wait until every committed event is published and marked."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            rows = await asyncio.to_thread(
                self.query,
                "SELECT sum(h.next_position - 1 - m.position) FROM {s}.shard_head h JOIN {s}.relay_marks m USING (shard)",
            )
            if rows[0][0] == 0:
                return
            await asyncio.sleep(0.2)
        raise AssertionError("the relay did not finish")

    def counters(self) -> Mapping[str, int]:
        """Totals by counter, folded from the stored history."""
        totals: dict[str, int] = {}
        for topic, state in self.query("SELECT topic, state FROM {s}.events ORDER BY shard, position"):
            data = orjson.loads(state)
            if topic == "counter.added.v1":
                totals[data["counter_id"]] = totals.get(data["counter_id"], 0) + data["amount"]
        return totals


def assert_published_equals_stored(engine: Engine, published: Sequence[tuple[EventEnvelope, bytes]]) -> None:
    """Every stored event was published, in order per shard; repeats only repeat (R8)."""
    stored = engine.query("SELECT shard, position, topic, state FROM {s}.events ORDER BY shard, position")
    last: dict[int, int] = {}
    kept = []
    for envelope, value in published:
        if envelope.position <= last.get(envelope.shard, 0):
            continue  # what every consumer does
        assert envelope.position == last.get(envelope.shard, 0) + 1, (
            f"gap before {envelope.shard}/{envelope.position}"
        )
        last[envelope.shard] = envelope.position
        kept.append((envelope.shard, envelope.position, envelope.type, value))
    assert kept == [(s, p, t, bytes(v)) for s, p, t, v in stored]


def assert_no_gaps(engine: Engine) -> None:
    """Positions are gapless and end where the head says."""
    for shard, following, count, highest in engine.query(
        "SELECT h.shard, h.next_position, count(e.position), coalesce(max(e.position), 0) FROM {s}.shard_head h "
        "LEFT JOIN {s}.events e USING (shard) GROUP BY 1, 2"
    ):
        assert count == highest == following - 1, (shard, following, count, highest)


@contextmanager
def paused(process: Process) -> Iterator[None]:
    """Stop a process (SIGSTOP) for the duration of the block."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
