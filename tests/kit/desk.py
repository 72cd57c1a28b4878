"""The writer without Kafka: records made by hand, in batches of the test's choice, on a real store.

What must hold of the engine is written here as checks that any test can run, also against a planted bug.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import ConsumerRecord

from events.decider import Decider
from events.flight import Committed
from events.loading import load_shard
from events.store.heads import Head, read_heads
from events.store.recorder import ShardRecorder, open_datastore
from events.verify import verify_store
from events.writer import Writer
from nexafi.ids import derived_id, make_id
from nexafi.role import Health
from nexafi.settings import Settings
from schemas.common.base import Command
from schemas.common.envelope import CommandEnvelope
from tests.kit.scenario import ROOT

SHARDS = 2


@dataclass
class Desk:
    """One service on a real store; ``offsets`` are the next ones of each shard's topic."""

    settings: Settings
    make: Callable[[], Decider[Any]]
    now_us: int = field(default_factory=lambda: time.time_ns() // 1000)
    replies: list[dict[str, Any]] = field(default_factory=list)
    committed: list[Committed] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(SHARDS), 0))
    count: int = 0
    writer: Writer[Any] = field(init=False)
    log: dict[int, list[ConsumerRecord[bytes, bytes]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.writer = self.new_writer("desk")

    def new_writer(self, owner: str) -> Writer[Any]:
        """Another process of the service, as it were."""
        decider = self.make()
        store = open_datastore(self.settings.database, decider.service, pool_size=3)
        recorder = ShardRecorder(store, service=decider.service)
        return Writer(
            decider,
            recorder,
            self.settings,
            owner=owner,
            health=Health(),
            publish=self._take,
            clock=lambda: self.now_us,
        )

    def _take(self, committed: Committed) -> None:
        self.committed.append(committed)
        self.replies.extend(body for _, body in committed.replies)

    async def open(self) -> None:
        """Acquire the shards."""
        await self.writer.take(list(range(SHARDS)))

    async def restart(self) -> None:
        """The process ends and comes back: memory is loaded from the store."""
        await self.close()
        self.writer = self.new_writer("again")
        await self.open()

    async def close(self) -> None:
        """End the writer and its connections."""
        await self.writer.close()
        await asyncio.to_thread(self.writer.recorder.datastore.close)

    # ------------------------------------------------------------------ commands

    def command_id(self, number: int) -> str:
        """Id of the command with this number."""
        return derived_id(ROOT, "desk", number)

    def created(self, number: int, shard: int = 0, kind: str = "counter", now_us: int | None = None) -> str:
        """Id of what the command with this number makes at this time."""
        return make_id(now_us or self.now_us, shard, self.command_id(number), kind, 0)

    def record(
        self, command: Command, number: int | None = None, shard: int = 0, request_hash: str = "aa"
    ) -> ConsumerRecord[bytes, bytes]:
        """The next record of a shard's topic; a known ``number`` is the same command again."""
        if number is None:
            number = self.count
            self.count += 1
        envelope = CommandEnvelope(
            self.command_id(number), command.TYPE, "acme", "tester", request_hash, "gw:0", time_us=1
        )
        value = command.model_dump_json().encode()
        offset = self.offsets[shard]
        self.offsets[shard] += 1
        made: ConsumerRecord[bytes, bytes] = ConsumerRecord(
            "commands", shard, offset, 0, 0, None, value, None, 0, len(value), envelope.headers()
        )
        self.log.setdefault(shard, []).append(made)
        return made

    async def process(self, *records: ConsumerRecord[bytes, bytes], settle: bool = True) -> None:
        """One poll. When batches are discarded, what follows from where the store stands is read again."""
        seek = await self.writer.process(list(records))
        for _ in range(60):
            if not seek and settle:
                seek = await self.writer.settle()
            if not seek:
                return
            again = [r for shard, offset in seek.items() for r in self.log.get(shard, [])[offset:]]
            seek = await self.writer.process(again)
        raise AssertionError("the writer does not come to rest")

    async def one(self, command: Command, shard: int = 0) -> dict[str, Any]:
        """Decide one command; its answer."""
        before = len(self.replies)
        await self.process(self.record(command, shard=shard))
        assert len(self.replies) == before + 1, self.replies[before:]
        return self.replies[-1]

    # ------------------------------------------------------------------ what is stored

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of the service's schema, which ``{s}`` stands for."""
        recorder = self.writer.recorder
        with recorder.connection() as conn:
            return conn.execute(statement.replace("{s}", f'"{recorder.schema}"')).fetchall()

    def history(self, shard: int = 0) -> list[tuple[int, str, bytes]]:
        """Position, type and data of each event."""
        where = f"WHERE shard = {shard} ORDER BY position"
        rows = self.rows(f"SELECT position, topic, state FROM {{s}}.events {where}")
        return [(p, t, bytes(s)) for p, t, s in rows]

    def head(self, shard: int = 0) -> Head:
        """A shard's head."""
        return read_heads(self.writer.recorder)[shard]

    def assert_sound(self) -> None:
        """Memory is what a full replay gives and what a snapshot and its tail give; hashes and heads agree."""
        decider = self.make()
        for shard, runtime in self.writer.shards.items():
            head = self.head(shard)
            assert (head.next_position, head.next_offset) == (runtime.position, runtime.offset), shard
            live = self.writer.decider.dump(runtime.state)
            whole = load_shard(self.writer.recorder, decider, head, use_snapshot=False)
            assert decider.dump(whole.state) == live, "memory is not what the whole history gives"
            tail = load_shard(self.writer.recorder, decider, head)
            assert decider.dump(tail.state) == live, "a snapshot and its tail are not the whole history"
            assert decider.next_due(tail.state) == decider.next_due(whole.state), "a deadline was forgotten"
        problems = [r.problem for r in verify_store(self.writer.recorder, decider) if r.problem]
        assert problems == []

    def answers(self) -> Sequence[dict[str, Any]]:
        """Everything that was replied, in order."""
        return self.replies
