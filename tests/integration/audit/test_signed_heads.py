"""Heads are signed outside the database, and a rewritten, cut or exchanged history is neither signed nor sound."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from events.head_signer import HeadSigner, read_book
from events.migrations import migrate
from events.producer import new_producer
from events.signed_heads import Place, signing_keys
from events.store.recorder import ShardRecorder, open_datastore
from events.topics import HEADS, ensure_topics
from events.verify_pool import Scope, verify_stores
from nexafi.role import Health, RoleContext
from nexafi.settings import Settings
from services.ledger.domain import LedgerDecider
from tests.integration.audit.conftest import Command
from tests.kit.recorded import RecordedLedger, recorded_ledger
from tests.kit.tampering import WAYS, Superuser


@dataclass
class Signed:
    """A store of its own service, and its signer."""

    settings: Settings
    service: str
    ledger: RecordedLedger
    recorder: ShardRecorder
    signer: HeadSigner
    health: Health

    @property
    def place(self) -> Place:
        return self.service, 0

    async def round(self) -> None:
        await self.signer.sign_all()

    async def restart(self) -> None:
        """The signer of a new process: it knows what the topic says."""
        signer = HeadSigner(self.signer.ctx, self.signer.keys, self.signer._producer, (self.service,))
        await signer.load()
        self.signer = signer

    async def problems(self, *, with_heads: bool = True) -> list[str | None]:
        """What verification finds."""
        decider = LedgerDecider()
        decider.service = self.service  # type: ignore[misc]
        book = await read_book(self.settings, self.signer.keys)
        pins = {p: x for p, x in book.pins().items() if p[0] == self.service} if with_heads else {}
        reports = await asyncio.to_thread(
            lambda: list(verify_stores(self.settings.database, [decider], Scope(pins=pins)))
        )
        return [r.problem for r in reports]

    def tamper(self, way: str) -> None:
        with psycopg.connect(self.settings.database) as conn:
            conn.execute(f'DELETE FROM "{self.service}".snapshots')
            WAYS[way](superuser := Superuser(conn, self.service, random.Random(3)))
            superuser.run(
                "DELETE FROM {s}.command_results r USING {s}.shard_head h WHERE r.position >= next_position"
            )

    @property
    def held_back(self) -> str:
        return self.health.problems.get(f"heads/{self.service}/0", "")


@pytest.fixture
async def signed(stack: Settings, database_url: str, tmp_path: Path) -> AsyncIterator[Signed]:
    service = f"l{secrets.token_hex(4)}"
    settings = stack.model_copy(
        update={
            "database_url": database_url,
            "shards": {service: 1},
            "data_dir": tmp_path,
            "instance": service,
        }
    )
    await asyncio.to_thread(migrate, settings, (service,))
    await ensure_topics(settings, (service,))
    recorder = ShardRecorder(open_datastore(database_url, service), service=service)
    ledger, health = recorded_ledger(), Health()
    await asyncio.to_thread(ledger.store, recorder)
    producer = new_producer(settings, "heads")
    await producer.start()
    ctx = RoleContext(settings, asyncio.Event(), health)
    signer = HeadSigner(ctx, signing_keys(settings), producer, (service,))
    await signer.load()
    yield Signed(settings, service, ledger, recorder, signer, health)
    await producer.stop()
    recorder.datastore.close()


async def test_what_is_new_is_signed_and_nothing_else(signed: Signed) -> None:
    await signed.round()
    await signed.round()
    assert signed.signer.signed == 1
    signed.ledger.transfers(4, random.Random(1))
    await asyncio.to_thread(signed.ledger.store, signed.recorder)
    await signed.restart()
    await signed.round()
    book = await read_book(signed.settings, signed.signer.keys)
    latest = book.latest(signed.place)
    assert latest is not None
    assert (latest.position, latest.chain_hash) == (signed.ledger.position, signed.ledger.chain.hex())
    assert len(book.heads[signed.place]) == 2
    assert await signed.problems() == [None]


@pytest.mark.parametrize(
    ("way", "word"),
    [("cut", "cut or rolled back"), ("rewrite", "written anew"), ("another_history", "which was signed")],
)
async def test_what_does_not_continue_is_found_and_not_signed(signed: Signed, way: str, word: str) -> None:
    await signed.round()
    await asyncio.to_thread(signed.tamper, way)
    assert await signed.problems(with_heads=False) == [None]  # every hash was computed anew
    (problem,) = await signed.problems()
    assert problem is not None
    assert word in problem
    for _ in range(2):  # neither now nor by a signer that has just started
        await signed.round()
        assert word in signed.held_back
        await signed.restart()
    assert (await read_book(signed.settings, signed.signer.keys)).latest(
        signed.place
    ) == signed.signer.book.latest(signed.place)
    assert signed.signer.signed == 0


async def test_an_operator_supersedes_after_a_restore(signed: Signed, nexafi: Command) -> None:
    await signed.round()
    await asyncio.to_thread(signed.tamper, "cut")
    await asyncio.to_thread(signed.tamper, "another_history")
    await signed.round()
    assert signed.held_back
    done = await asyncio.to_thread(
        nexafi, "audit", "supersede", signed.service, "--reason", "restored a backup", "--yes"
    )
    assert "replaces" in done.stdout
    await signed.round()
    assert signed.held_back == ""
    assert await signed.problems() == [None]
    latest = (await read_book(signed.settings, signed.signer.keys)).latest(signed.place)
    assert latest is not None
    assert latest.reason == "restored a backup"
    assert latest.supersedes is not None
    assert latest.supersedes[0] == signed.ledger.position
    again = await asyncio.to_thread(nexafi, "audit", "supersede", signed.service, "--reason", "x", "--yes")
    assert "nothing to supersede" in again.stdout


async def test_a_record_that_nobody_signed_is_found(signed: Signed) -> None:
    """Whoever overwrites the head of a shard on the compacted topic hides nothing."""
    await signed.round()
    key = f"{signed.service}/0".encode()
    await signed.signer._producer.send_and_wait(HEADS, b"e30.e30.AAAA", key=key, partition=0)
    (problem,) = await signed.problems()
    assert problem is not None
    assert "should be a signed head is none" in problem
    await signed.restart()
    await signed.round()
    assert signed.held_back
    assert signed.signer.signed == 0
