"""Processes that tests kill and start again by the dozen: real ones, forked from a parent that has everything imported.

Importing the platform costs a process seconds of work, which on a small machine is more than all that a test
wants to see. The parent (``multiprocessing``'s fork server) is made once for a run of pytest, has one thread and
holds no connection.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.kit.processes", "tests.kit.preloaded"])


class Process:
    """A process with the interface of :class:`subprocess.Popen`."""

    def __init__(
        self,
        target: Callable[..., Any],
        *arguments: Any,
        env: Mapping[str, str],
        log: Path | None = None,
    ) -> None:
        name = str(log) if log is not None else os.devnull
        self._process = _CONTEXT.Process(
            target=_begin, args=(target, arguments, dict(env), name), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """The exit status; minus the signal's number when one ended it; ``None`` while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; :class:`subprocess.TimeoutExpired` when it does not come."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal unless the process has ended."""
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)


def _begin(target: Callable[..., Any], arguments: tuple[Any, ...], env: dict[str, str], log: str) -> None:
    """In the new process: its own environment and output, as if it had been started from a shell."""
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(env)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(out, standard)
    sys.stdout, sys.stderr = (os.fdopen(fd, "w", buffering=1, closefd=False) for fd in (1, 2))
    logging.getLogger().handlers.clear()
    _read_environment_again()
    code = target(*arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


def _read_environment_again() -> None:
    """What modules read from the environment when they were imported, in the parent."""
    from nexafi.settings import get_settings

    get_settings.cache_clear()
    importlib.reload(importlib.import_module("events.failpoints"))
