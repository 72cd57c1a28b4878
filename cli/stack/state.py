"""What the supervisor tells others: one JSON file, replaced as a whole, and a lock that proves it lives.

The lock is the truth about "is it running": the kernel frees it when the supervisor dies, however it dies.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from cli.stack.process import Identity

Phase = Literal["starting", "ready", "stopping", "stopped", "failed"]
Condition = Literal[
    "waiting", "starting", "ready", "unhealthy", "restarting", "broken", "stopped", "external", "done"
]


class ProcessState(BaseModel):
    """One server, group of roles or step."""

    kind: Literal["server", "roles", "step"]
    condition: Condition = "waiting"
    problem: str | None = None
    pid: int | None = None
    started: float | None = None
    restarts: int = 0
    last_exit: str | None = None
    port: int | None = None
    address: str | None = None

    @property
    def identity(self) -> Identity | None:
        """The process, if there was one."""
        return None if self.pid is None or self.started is None else Identity(self.pid, self.started)


class StackState(BaseModel):
    """Everything about a stack that others may know. The file has mode 600: ``demo`` names credentials."""

    supervisor_pid: int
    supervisor_started: float
    phase: Phase = "starting"
    error: str | None = None
    port_base: int
    processes: dict[str, ProcessState] = Field(default_factory=dict)
    demo: dict[str, Any] = Field(default_factory=dict)
    started_at: str = ""
    ready_after_s: float | None = None

    @property
    def supervisor(self) -> Identity:
        """The supervisor's own process."""
        return Identity(self.supervisor_pid, self.supervisor_started)

    def ready(self) -> bool:
        """Whether everything that was asked for works."""
        return all(p.condition in {"ready", "external", "done"} for p in self.processes.values())


def state_file(run: Path) -> Path:
    """Where the state is."""
    return run / "state.json"


def write(run: Path, state: StackState) -> None:
    """Replace the state file."""
    new = run / "state.json.new"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123 - mode from the start
        file.write(state.model_dump_json(indent=1))
    new.replace(state_file(run))


def read(run: Path) -> StackState | None:
    """The last state that was written, if any; it may be of a supervisor that is gone."""
    try:
        return StackState.model_validate(json.loads(state_file(run).read_text()))
    except FileNotFoundError:
        return None


class AlreadyRunningError(RuntimeError):
    """Another supervisor holds the data folder."""


@contextmanager
def supervisor_lock(run: Path) -> Iterator[None]:
    """Hold the data folder; raises :class:`AlreadyRunningError`."""
    with (run / "supervisor.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(f"another supervisor holds {run.parent}") from None
        yield


def is_running(run: Path) -> bool:
    """Whether a supervisor holds the data folder."""
    try:
        with (run / "supervisor.lock").open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except FileNotFoundError:
        return False


@contextmanager
def up_lock(run: Path) -> Iterator[None]:
    """Let one ``up`` at a time start a supervisor; a second one waits and then finds it running."""
    with (run / "up.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def end_leftovers(state: StackState) -> list[str]:
    """End processes of a supervisor that is gone (its caller made sure). Returns the names of those that still ran."""
    ended = []
    for name, process in state.processes.items():
        identity = process.identity
        if identity is not None and identity.process() is not None:
            ended.append(name)
            identity.end(timeout_s=10.0)
    return ended
