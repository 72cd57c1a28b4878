"""Keeping one process alive: start, wait until it answers, watch, start again with a bounded back-off."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cli.stack import process
from cli.stack.process import Command, Identity
from cli.stack.state import ProcessState

log = logging.getLogger("nexafi.supervisor")

_POLL_S = 0.1
_PROBE_STARTING_S = 0.15
_PROBE_READY_S = 3.0
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MAX_S = 30.0
_STEADY_AFTER_S = 60.0
_TRIES_OF_A_NEW_SERVER = 3

#: Exit status of a process that can not work however often it is started (``EX_CONFIG`` of sysexits.h).
EXIT_BROKEN = 78


class ServerBroken(RuntimeError):
    """A server ended several times before it ever answered."""


@dataclass
class Child:
    """A process that the supervisor keeps.

    ``command`` and ``probe`` are asked for at every start; ``probe`` runs in a thread and returns what is
    wrong or ``None``. ``changed`` is called whenever ``state`` differs.
    """

    name: str
    state: ProcessState
    log_file: Path
    command: Callable[[], Command]
    probe: Callable[[], str | None]
    changed: Callable[[], None]
    prepare: Callable[[], Awaitable[None]] | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False
    ever_ready: bool = False
    _running: subprocess.Popen[bytes] | None = None
    _command: Command | None = None

    async def keep(self) -> None:
        """Run until :meth:`stop`; every end that nobody asked for is logged, counted and shown."""
        backoff_s = _BACKOFF_FIRST_S
        if self.prepare is not None:
            self._show("starting", "preparing")
            await self.prepare()
        while not self.stopping:
            started = time.monotonic()
            running = self._start()
            await self._watch(running)
            if self.stopping:
                return
            self.ready.clear()
            self.state.last_exit = _describe_exit(running.returncode)
            if running.returncode == EXIT_BROKEN:
                self._show("broken", _last_line(self.log_file))
                log.error("%s can not start: %s", self.name, self.state.problem)
                return
            if (
                not self.ever_ready
                and self.state.kind == "server"
                and self.state.restarts >= _TRIES_OF_A_NEW_SERVER - 1
            ):
                self._show("broken", _last_line(self.log_file))
                raise ServerBroken(f"{self.name} {self.state.last_exit}:\n{process.tail(self.log_file, 8)}")
            if time.monotonic() - started > _STEADY_AFTER_S:
                backoff_s = _BACKOFF_FIRST_S
            self.state.restarts += 1
            log.error("%s %s; starting it again in %.1f s", self.name, self.state.last_exit, backoff_s)
            self._show("restarting", f"{self.state.last_exit}: {_last_line(self.log_file)}")
            await self._pause(backoff_s)
            backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)

    def _start(self) -> subprocess.Popen[bytes]:
        self._command = self.command()
        running = process.start(self._command, self.log_file)
        self._running = running
        self.state.pid = running.pid
        self.state.started = Identity.of(running.pid).started
        if self.state.restarts == 0:
            self._show("starting", None)
        self.changed()
        log.info("%s started, pid %d", self.name, running.pid)
        return running

    async def _watch(self, running: subprocess.Popen[bytes]) -> None:
        """Return when the process has ended; probe it on the way."""
        next_probe = 0.0
        while running.poll() is None:
            if not self.stopping and time.monotonic() >= next_probe:
                problem = await asyncio.to_thread(self.probe)
                self._probed(problem)
                next_probe = time.monotonic() + (_PROBE_READY_S if problem is None else _PROBE_STARTING_S)
            await asyncio.sleep(_POLL_S)

    def _probed(self, problem: str | None) -> None:
        if self.stopping:
            return
        if problem is None:
            if not self.ready.is_set():
                log.info("%s is ready", self.name)
            self.ready.set()
            self.ever_ready = True
            self._show("ready", None)
        else:
            self._show("unhealthy" if self.ready.is_set() else "starting", problem)

    async def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < until:
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        """Ask the process to end, wait as long as it may take, then kill it and what it started."""
        self.stopping = True
        running, command = self._running, self._command
        if running is None or command is None or running.poll() is not None:
            if self.state.condition != "broken":
                self._show("stopped", None)
            return
        running.send_signal(command.stop_signal)
        deadline = time.monotonic() + command.stop_timeout_s
        while running.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if running.poll() is None:
            log.error("%s did not end within %.0f s: killed", self.name, command.stop_timeout_s)
            os.killpg(
                running.pid, signal.SIGKILL
            )  # the group is its own (start_new_session) and not yet reaped
            await asyncio.to_thread(running.wait, 10)
        if running.stdin is not None:
            running.stdin.close()
        self.state.last_exit = _describe_exit(running.returncode)
        log.info("%s stopped, %s", self.name, self.state.last_exit)
        self._show("stopped", None)

    def _show(self, condition: str, problem: str | None) -> None:
        if (self.state.condition, self.state.problem) != (condition, problem):
            self.state.condition = condition  # type: ignore[assignment]
            self.state.problem = problem
            self.changed()


def _describe_exit(status: int | None) -> str:
    if status is None:
        return "still runs"
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _last_line(file: Path) -> str:
    lines = [line for line in process.tail(file, 20).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "it wrote nothing to its log"
