"""Keeping one process alive: start, wait until it answers, watch, start again with a bounded back-off."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cli.roles import EXIT_BROKEN
from cli.stack.process import Command, Identity, launch_argv, lower_priority, tail
from cli.stack.state import Condition, ProcessState

log = logging.getLogger("nexafi.supervisor")

_PROBE_STARTING_S = 0.15
_PROBE_READY_S = 3.0
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MAX_S = 30.0
_STEADY_AFTER_S = 60.0
_TRIES_OF_A_NEW_SERVER = 3


class ServerBrokenError(RuntimeError):
    """A server ended several times before it ever answered."""


@dataclass
class Child:
    """A process that the supervisor keeps.

    ``command`` is asked for at every start; ``probe`` runs in a thread and returns what is wrong or
    ``None``. ``changed`` is called whenever ``state`` differs. ``ready`` is set while the process answers,
    ``settled`` from the first time that it does or is given up.
    """

    name: str
    state: ProcessState
    log_file: Path
    command: Callable[[], Command]
    probe: Callable[[], str | None]
    changed: Callable[[], None]
    prepare: Callable[[], Awaitable[None]] | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _running: Process | None = None
    _command: Command | None = None

    async def keep(self) -> None:
        """Run until :meth:`stop`; every end that nobody asked for is logged, counted and shown.

        Raises :class:`ServerBrokenError` for a server that never came to answer.
        """
        backoff_s = _BACKOFF_FIRST_S
        if self.prepare is not None:
            self._show("starting", "preparing")
            await self.prepare()
        while not self._stop.is_set():
            started = time.monotonic()
            status = await self._watch(await self.start())
            if self._stop.is_set():
                return
            self.ready.clear()
            self.state.last_exit = _describe_exit(status)
            if self._given_up(status):
                return
            if time.monotonic() - started > _STEADY_AFTER_S:
                backoff_s = _BACKOFF_FIRST_S
            self.state.restarts += 1
            log.error("%s %s; starting it again in %.1f s", self.name, self.state.last_exit, backoff_s)
            self._show("restarting", f"{self.state.last_exit}: {_last_line(self.log_file)}")
            await _first(self._stop.wait(), backoff_s)
            backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)

    def _given_up(self, status: int) -> bool:
        new_server = self.state.kind == "server" and not self.settled.is_set()
        if status != EXIT_BROKEN and not (new_server and self.state.restarts >= _TRIES_OF_A_NEW_SERVER - 1):
            return False
        self._show("broken", _last_line(self.log_file))
        log.error("%s can not start: %s", self.name, self.state.problem)
        if new_server:
            raise ServerBrokenError(f"{self.name} {self.state.last_exit}:\n{tail(self.log_file, 8)}")
        self.settled.set()
        return True

    async def start(self) -> Process:
        """Start the process once (from the main thread, see ``cli.stack.process.start``)."""
        command = self._command = self.command()
        with self.log_file.open("ab") as out:
            running = await asyncio.create_subprocess_exec(
                *launch_argv(command),
                env=dict(command.env) or None,
                cwd=command.cwd or "/",
                stdin=DEVNULL if command.stdin is None else PIPE,
                stdout=out,
                stderr=STDOUT,
                start_new_session=True,
            )
        if command.stdin is not None:
            assert running.stdin is not None
            running.stdin.write(command.stdin)
        self._running = running
        self.state.pid = running.pid
        self.state.started = Identity.of(running.pid).started
        if self.state.restarts == 0:
            self._show("starting", None)
        self.changed()
        log.info("%s started, pid %d", self.name, running.pid)
        return running

    async def _watch(self, running: Process) -> int:
        """Probe the process until it has ended; returns its exit status."""
        ended = asyncio.create_task(running.wait())
        while not ended.done():
            problem = await asyncio.to_thread(self.probe)
            if not self._stop.is_set() and not ended.done():
                self._probed(problem)
            await asyncio.wait({ended}, timeout=_PROBE_READY_S if problem is None else _PROBE_STARTING_S)
        return await ended

    def _probed(self, problem: str | None) -> None:
        if problem is not None:
            self._show("unhealthy" if self.ready.is_set() else "starting", problem)
            return
        if not self.ready.is_set():
            log.info("%s is ready", self.name)
            self._yield_processor()
        self.ready.set()
        self.settled.set()
        self._show("ready", None)

    def _yield_processor(self) -> None:
        """Not before it is ready: a start should be quick."""
        if self._command is None or not self._command.niceness or self.state.pid is None:
            return
        try:
            lower_priority(self.state.pid, self._command.niceness)
        except OSError as error:  # it works all the same, only less politely
            log.warning("%s keeps its priority: %s", self.name, error)

    async def stop(self) -> None:
        """Ask the process to end, wait as long as it may take, then kill it and what it started."""
        self._stop.set()
        running, command = self._running, self._command
        if running is None or command is None or running.returncode is not None:
            if self.state.condition != "broken":
                self._show("stopped", None)
            return
        running.send_signal(command.stop_signal)
        if not await _first(running.wait(), command.stop_timeout_s) and running.returncode is None:
            log.error("%s did not end within %.0f s: killed", self.name, command.stop_timeout_s)
            os.killpg(
                running.pid, signal.SIGKILL
            )  # the group is its own (start_new_session) and not yet reaped
            await running.wait()
        self.state.last_exit = _describe_exit(running.returncode)
        log.info("%s stopped, %s", self.name, self.state.last_exit)
        self._show("stopped", None)

    def _show(self, condition: Condition, problem: str | None) -> None:
        if (self.state.condition, self.state.problem) != (condition, problem):
            self.state.condition = condition
            self.state.problem = problem
            self.changed()


async def _first(work: Awaitable[object], seconds: float) -> bool:
    """Whether ``work`` was done within ``seconds``."""
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return False
    return True


def _describe_exit(status: int | None) -> str:
    if status is None:
        return "still runs"
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _last_line(file: Path) -> str:
    lines = [line for line in tail(file, 20).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "it wrote nothing to its log"
