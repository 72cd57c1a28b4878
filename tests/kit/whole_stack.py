"""A whole platform that a test may kill, and clients that remember what they were told before it died."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from cli.stack import ports, state
from cli.stack.paths import CHECKOUT, Layout
from tests.kit.api import Answer, fresh_key
from tests.kit.book import Book
from tests.kit.platform import Platform, running

_ADDRESSES = (
    "NEXAFI_DATABASE_URL",
    "NEXAFI_KAFKA_BOOTSTRAP",
    "NEXAFI_REDIS_URL",
    "NEXAFI_ELASTICSEARCH_URL",
)
_COMMAND_TIMEOUT_S = 400


@dataclass(frozen=True)
class WholeStack:
    """Servers and roles with a data folder of their own, driven through the command line."""

    root: Path
    port_base: int

    @property
    def layout(self) -> Layout:
        """Where its files are."""
        return Layout.here(self.root)

    def nexafi(self, *arguments: str, status: int | None = 0) -> str:
        """Run ``nexafi`` to its end; what it printed. ``status`` ``None``: whatever it is."""
        kept = {name: value for name, value in os.environ.items() if name not in _ADDRESSES}
        done = subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            cwd=CHECKOUT,
            env=kept | {"NEXAFI_DATA_DIR": str(self.root), "NEXAFI_PORT_BASE": str(self.port_base)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
        assert status in (None, done.returncode), done.stdout
        return done.stdout

    def up(self, *arguments: str) -> Platform:
        """Start and wait until all works."""
        self.nexafi("up", *arguments, status=None)  # it gives up sooner than a busy machine is ready
        return running(self.root)

    def kill(self) -> int:
        """SIGKILL to every process of the stack at once, the supervisor first; how many."""
        found = state.read(self.layout.run)
        assert found is not None
        pids = [found.supervisor_pid, *(p.pid for p in found.processes.values() if p.pid is not None)]
        family = []
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                family += [process, *process.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(set(family), timeout=30)
        assert not alive
        return len(set(family))


@contextmanager
def whole_stack() -> Iterator[WholeStack]:
    """One in an empty folder on free ports, not started; whatever runs of it at the end is ended."""
    made = WholeStack(Path(tempfile.mkdtemp(prefix="nexafi-whole-")), ports.free_port_base())
    try:
        yield made
    finally:
        with suppress(AssertionError):
            made.nexafi("down")
        shutil.rmtree(made.root, ignore_errors=True)


@dataclass
class Transfers:
    """Clients that post transfers of 1 with a key each, and remember every answer.

    A request whose connection breaks is *unknown*; its client asks again with the same key, and :meth:`settle` does.
    """

    book: Book
    keys: list[str] = field(default_factory=list)
    posted: dict[str, str] = field(default_factory=dict)
    _stop: bool = False
    _clients: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, clients: int = 16) -> None:
        """Send until :meth:`stop`."""
        self._stop = False
        self._clients = [asyncio.create_task(self._client()) for _ in range(clients)]

    async def reach(self, acknowledged: int, timeout_s: float = 300) -> None:
        """Wait until so many were acknowledged in all."""
        async with asyncio.timeout(timeout_s):
            while len(self.posted) < acknowledged:  # noqa: ASYNC110 -- clients count
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """No more requests."""
        self._stop = True
        await asyncio.gather(*self._clients)

    async def settle(self) -> None:
        """Ask again for what is unknown, until everything is acknowledged."""
        for key in self.keys:
            if key not in self.posted:
                await self._post(key)
        assert len(self.posted) == len(self.keys)

    async def ask(self, key: str) -> Answer:
        """The same request once more."""
        return await self.book.post(1, key, key=key)

    async def _client(self) -> None:
        while not self._stop:
            key = fresh_key()
            self.keys.append(key)
            while key not in self.posted and not self._stop:  # a client does not go on before it knows
                await self._post(key)

    async def _post(self, key: str) -> None:
        try:
            answer = await self.ask(key)
        except (aiohttp.ClientError, OSError, TimeoutError):
            await asyncio.sleep(0.2)
            return
        if answer.status == 201:
            self.posted[key] = answer.result["transaction_id"]
        else:  # 202 when the wait was too short, 503 while a role is away: unknown as well
            assert answer.status in (202, 429, 500, 502, 503, 504), (answer.status, answer.body[:300])
            await asyncio.sleep(0.2)
