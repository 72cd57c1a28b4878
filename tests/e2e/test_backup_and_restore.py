"""The whole platform is backed up under load, killed, loses its database, and is restored by the command line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.kit.api import Caller, callers
from tests.kit.book import book_of
from tests.kit.platform import Platform
from tests.kit.whole_stack import Transfers, WholeStack, whole_stack

pytestmark = [pytest.mark.stack, pytest.mark.kill, pytest.mark.timeout(900)]


def lose_the_database(platform: Platform) -> None:
    """Every schema of ours is dropped."""
    with psycopg.connect(platform.settings.database, autocommit=True) as conn:
        ours = conn.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')"
        ).fetchall()
        for (name,) in ours:
            conn.execute(f'DROP SCHEMA "{name}" CASCADE')


async def until(read: Any, wanted: Any, seconds: float = 120) -> None:
    """Wait until a view says what it must."""
    async with asyncio.timeout(seconds):
        while (found := await read()) != wanted:
            await asyncio.sleep(0.5)
            last = found  # noqa: F841 -- for the debugger


async def test_restored_from_the_command_line(tmp_path: Path) -> None:
    with whole_stack() as stack:
        platform = await asyncio.to_thread(stack.up)
        async with callers(platform, "acme") as (caller,):
            await assert_restored(stack, platform, caller, tmp_path)


async def assert_restored(stack: WholeStack, platform: Platform, caller: Caller, tmp_path: Path) -> None:
    """Back up under load, kill, lose the database, restore, and compare with what clients were told."""
    book = await book_of(caller)
    load = Transfers(book)
    load.start()
    await load.reach(200)
    backup = str(tmp_path / "backup")
    said = await asyncio.to_thread(stack.nexafi, "backup", "--to", backup)
    assert "events/s" in said
    at_backup = len(load.posted)
    await load.reach(at_backup + 300)
    paid = [await caller.post("/v1/payments", book.payment(5)) for _ in range(3)]
    payments = [a.result["payment_id"] for a in paid]
    await asyncio.to_thread(stack.kill)
    await load.stop()

    await asyncio.to_thread(stack.up, "--servers-only")
    await asyncio.to_thread(lose_the_database, platform)
    report = tmp_path / "report.json"
    said = await asyncio.to_thread(stack.nexafi, "restore", "--from", backup, "--report", str(report))
    assert "everything that was acknowledged is back" in said, said
    assert report.exists()
    # A second time it would replace what is there now.
    assert "not empty" in await asyncio.to_thread(lambda: stack.nexafi("restore", "--from", backup, status=1))

    await asyncio.to_thread(stack.nexafi, "down")
    await asyncio.to_thread(stack.up)
    await caller.known()
    for key, transaction in list(load.posted.items())[:: max(1, len(load.posted) // 50)]:
        assert (await load.ask(key)).result["transaction_id"] == transaction
    await load.settle()

    async def settled() -> list[str]:
        return [(await caller.get(f"/v1/payments/{p}")).json().get("status", "") for p in payments]

    await until(settled, ["settled"] * len(payments))

    async def balances() -> tuple[int, int]:
        answers = [await caller.get(f"{book.path}/accounts/{a}") for a in (book.alice, book.bob)]
        return tuple(int(a.json().get("balance", -1)) for a in answers)  # type: ignore[return-value]

    await until(balances, (len(load.posted) - 15, 15))
    assert "0 shards wrong" in await asyncio.to_thread(stack.nexafi, "audit", "verify")
    assert "drift" not in (await asyncio.to_thread(stack.nexafi, "projections", "verify")).lower()
