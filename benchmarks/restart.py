"""A writer is killed, and another one starts: how long until a command is committed again?

The clock runs from the SIGKILL. One command for each shard waits in Kafka; the first commit of any of them is the
figure, and the last one says when the whole service was back.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass
from typing import Final

from benchmarks.commands import Book, send, transfers
from benchmarks.installation import Installation, RoleProcess
from benchmarks.stored import Store

_POLL_S: Final = 0.005
_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Seconds from the kill to the first commit on any shard, and to the first on every shard."""

    first_commit_s: float
    all_shards_s: float


async def kill_and_start(
    installation: Installation, writer: RoleProcess, books: list[Book], seed: int
) -> tuple[Restart, RoleProcess]:
    """SIGKILL ``writer`` and start another; it is left running."""
    store = Store(installation.settings)
    try:
        await asyncio.to_thread(_settled, store)
        killed = time.perf_counter()
        await asyncio.to_thread(writer.end, signal.SIGKILL)
        before = {shard: offset for shard, (_, _, offset) in store.heads().items()}
        starting = installation.start_role("ledger", name="ledger-writer-measured")
        await send(installation.settings, transfers(books, len(books), seed))
        first = 0.0
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            now = time.perf_counter()
            heads = await asyncio.to_thread(store.heads)
            moved = [shard for shard, (_, _, offset) in heads.items() if offset > before[shard]]
            if moved and not first:
                first = now
            if len(moved) == len(books):
                return Restart(first - killed, now - killed), starting
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(moved)} of {len(books)} shards work after {_TIMEOUT_S:.0f} s")
            await asyncio.sleep(_POLL_S)
    finally:
        store.close()


def _settled(store: Store) -> None:
    """Wait until nothing is being appended."""
    last = -1
    while (now := store.consumed()) != last:
        last = now
        time.sleep(0.3)
