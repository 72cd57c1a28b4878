"""A counter service that is loaded, backed up, destroyed and restored."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from events.backup.dumping import BackupDone, take_backup
from events.backup.loading import load_stores
from events.backup.manifest import check_files, read_manifest
from events.backup.report import RestoreReport
from events.backup.restoring import Restore
from nexafi.settings import Settings
from schemas.common.base import Command
from schemas.common.outcomes import CommandResult
from tests.kit.counter import Add, Close, CounterDecider, Open
from tests.kit.engine import Engine

#: Everything that a store holds about what happened, in a form that can be compared.
FACTS = {
    "events": "SELECT * FROM {s}.events ORDER BY shard, position",
    "batches": "SELECT shard, first_position, last_position, time_us, merkle_root, chain_hash FROM {s}.batches ORDER BY 1, 2",
    "results": "SELECT command_id, request_hash, shard, position, outcome, result FROM {s}.command_results ORDER BY 1",
    "claims": "SELECT scope, value_hmac, owner FROM {s}.claims ORDER BY 1, 2",
    "letters": "SELECT partition, record_offset, item, command_id, value, error FROM {s}.dead_letters ORDER BY 1, 2, 3",
}

Facts = dict[str, list[tuple[Any, ...]]]


class MixedLoad:
    """Clients that do everything that a counter allows and remember every answer."""

    def __init__(self, engine: Engine, seed: int = 1) -> None:
        self.engine = engine
        self.rng = random.Random(seed)
        self.counters: list[str] = []
        self.sent: dict[str, Command] = {}
        self.answers: dict[str, CommandResult] = {}
        self._count = 0
        self._stop = False
        self._clients: list[asyncio.Task[None]] = []

    async def start(self, clients: int = 8) -> None:
        """Open some counters, then send until :meth:`stop`."""
        await asyncio.gather(*(self._do(Open(name=f"c{i}")) for i in range(6)))
        self._clients = [asyncio.create_task(self._client()) for _ in range(clients)]

    async def stop(self) -> None:
        """No more commands; those on their way may stay without an answer."""
        self._stop = True
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def reach(self, answers: int) -> None:
        """Wait for a number of answers."""
        async with asyncio.timeout(120):
            while len(self.answers) < answers:  # noqa: ASYNC110 -- clients count
                await asyncio.sleep(0.05)

    async def _client(self) -> None:
        while not self._stop:
            await self._do(self._next())

    def _next(self) -> Command:
        pick, counter = self.rng.random(), self.rng.choice(self.counters)
        if pick < 0.75:
            return Add(counter_id=counter, amount=self.rng.choice((1, 2, 3, -1)))
        if pick < 0.85:
            return Add(counter_id=counter, amount=-1_000_000)
        if pick < 0.90:
            return Open(name="short", expires_in_us=self.rng.randrange(1_000, 400_000))
        if pick < 0.94:
            return Open(name="claims", unique=f"golden-{self.rng.randrange(20)}")
        if pick < 0.97:
            return Add(counter_id=counter, amount=666)
        return Close(counter_id=self.counters[-1]) if len(self.counters) > 6 else Open(name="new")

    async def _do(self, command: Command) -> None:
        key = f"k{self._count}"
        self._count += 1
        self.sent[key] = command
        answer = await self.engine.send(command, key)
        if answer is None:
            return
        self.answers[key] = answer
        if isinstance(command, Open) and answer.outcome == "accepted" and command.name != "short":
            self.counters.append(answer.result["counter_id"])

    async def ask_again(self) -> dict[str, CommandResult | None]:
        """Send every command that was answered once more, with its old key."""
        keys = [k for k, a in self.answers.items() if a.outcome != "failed"]
        again = await asyncio.gather(*(self.engine.send(self.sent[k], k) for k in keys))
        return dict(zip(keys, again, strict=True))


def facts(engine: Engine) -> Facts:
    """Rows of :data:`FACTS`."""
    return {name: engine.query(statement) for name, statement in FACTS.items()}


def destroy(engine: Engine) -> None:
    """The store is gone."""
    with psycopg.connect(engine.settings.database, autocommit=True) as conn:
        conn.execute(f'DROP SCHEMA "{engine.service}" CASCADE')


async def back_up(engine: Engine, folder: Path) -> BackupDone:
    """A backup while whatever runs goes on."""
    return await asyncio.to_thread(take_backup, engine.settings, folder, (engine.service,))


async def restored(engine: Engine, folder: Path) -> RestoreReport:
    """Check, load, roll forward, verify, make ready: what the command does, for one service."""
    return await restore_store(engine.settings, engine.service, folder, lambda _text: None)


async def restore_store(
    settings: Settings, service: str, folder: Path, say: Callable[[str], None]
) -> RestoreReport:
    """The same for a store of any engine; ``say`` hears what has been done."""
    manifest = await asyncio.to_thread(read_manifest, folder, settings)
    await asyncio.to_thread(check_files, folder, manifest)
    await asyncio.to_thread(load_stores, settings, folder, manifest, say)
    say("loaded")
    async with Restore(settings, manifest, {service: CounterDecider(service)}, say) as work:
        await work.roll_forward()
        say("rolled forward")
        await work.verify()
        say("verified")
        work.begin_histories()
        await work.reissue()
        work.make_ready(lambda _conn: None)
        return work.report


def _say_and_wait(word: str, text: str) -> None:
    print(text, flush=True)
    if word in text:
        time.sleep(60)  # somebody kills us now


if __name__ == "__main__":
    name, source, given, until = sys.argv[1:]
    asyncio.run(
        restore_store(Settings(**json.loads(given)), name, Path(source), partial(_say_and_wait, until))
    )
