"""The role ``heads`` as it runs: it signs what is new, waits out a database that is away, and signs once more at its end."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from events.head_signer import read_book, run
from events.migrations import migrate
from events.signed_heads import SignedHead, signing_keys
from events.store.recorder import ShardRecorder, open_datastore
from events.topics import ensure_topics
from nexafi.role import Health, RoleContext
from nexafi.settings import Settings
from tests.kit.recorded import RecordedLedger, recorded_ledger


@dataclass
class Running:
    """The role on a store of its own, as a task."""

    ctx: RoleContext
    service: str
    ledger: RecordedLedger
    recorder: ShardRecorder

    async def happen(self, count: int) -> None:
        """Some transfers more."""
        self.ledger.transfers(count, random.Random(count))
        await asyncio.to_thread(self.ledger.store, self.recorder)

    async def latest(self) -> SignedHead | None:
        """The newest head on the topic."""
        settings = self.ctx.settings
        return (await read_book(settings, signing_keys(settings))).latest((self.service, 0))

    async def signed(self, position: int) -> SignedHead:
        """The head at ``position``, once it is there."""
        async with asyncio.timeout(60):
            while (head := await self.latest()) is None or head.position < position:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return head


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110 - health has no event
            await asyncio.sleep(0.05)


@pytest.fixture
async def running(stack: Settings, database_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    service = f"h{secrets.token_hex(4)}"
    own = {"database_url": database_url, "shards": {service: 1}, "data_dir": tmp_path, "instance": service}
    settings = stack.model_copy(update={**own, "heads_every_s": 0.2})
    await asyncio.to_thread(migrate, settings, (service,))
    await ensure_topics(settings, (service,))
    recorder = ShardRecorder(open_datastore(database_url, service), service=service)
    ledger = recorded_ledger()
    await asyncio.to_thread(ledger.store, recorder)
    ctx = RoleContext(settings, asyncio.Event(), Health())
    yield Running(ctx, service, ledger, recorder)
    recorder.datastore.close()


async def test_the_role_signs_what_is_new_and_what_is_left_at_its_end(running: Running) -> None:
    role = asyncio.create_task(run(running.ctx, (running.service,)))
    first = await running.signed(running.ledger.position)
    assert first.chain_hash == running.ledger.chain.hex()
    await until(lambda: running.ctx.health.ready)
    await running.happen(3)
    second = await running.signed(running.ledger.position)
    assert second.position > first.position
    await running.happen(2)
    running.ctx.stop.set()
    async with asyncio.timeout(60):
        await role
    last = await running.latest()
    assert last is not None
    assert (last.position, last.chain_hash) == (running.ledger.position, running.ledger.chain.hex())


async def test_a_store_that_is_away_is_waited_for_and_shown_in_health(running: Running) -> None:
    role = asyncio.create_task(run(running.ctx, (running.service,)))
    await running.signed(running.ledger.position)
    with psycopg.connect(running.ctx.settings.database, autocommit=True) as conn:
        conn.execute(f'ALTER SCHEMA "{running.service}" RENAME TO "away"')
        await until(lambda: "UndefinedTable" in running.ctx.health.problems.get("heads", ""))
        assert not running.ctx.health.ready
        conn.execute(f'ALTER SCHEMA "away" RENAME TO "{running.service}"')
    await until(lambda: running.ctx.health.ready)
    await running.happen(1)
    await running.signed(running.ledger.position)
    running.ctx.stop.set()
    async with asyncio.timeout(60):
        await role


async def test_a_process_that_can_keep_no_key_says_what_to_set(running: Running, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    settings = running.ctx.settings.model_copy(update={"data_dir": tmp_path / "file"})
    with pytest.raises(RuntimeError, match="NEXAFI_HEAD_SIGNING_KEYS"):
        await run(RoleContext(settings, asyncio.Event(), Health()), (running.service,))
