"""Starting, recognising and ending processes.

A pid alone names nobody: it is used again. A process is known here by pid **and** start time, and only
one that the stack started itself is ever signalled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cli.stack.paths import Account

_LAUNCHER = Path(__file__).with_name("launch.py")
_START_TIME_TOLERANCE_S = 0.05


@dataclass(frozen=True)
class Identity:
    """A process that can not be mistaken for a later one with the same pid."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Identity:
        """Identity of a running process; raises ``psutil.NoSuchProcess`` when it has ended."""
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process when it still runs (a zombie does not)."""
        try:
            found = psutil.Process(self.pid)
            if abs(found.create_time() - self.started) > _START_TIME_TOLERANCE_S:
                return None
            return None if found.status() == psutil.STATUS_ZOMBIE else found
        except psutil.NoSuchProcess:
            return None

    def send(self, number: int) -> bool:
        """Signal the process when it still runs; ``False`` when it does not."""
        found = self.process()
        if found is None:
            return False
        try:
            found.send_signal(number)
        except psutil.NoSuchProcess:
            return False
        return True

    def wait_gone(self, timeout_s: float) -> bool:
        """Wait until the process has ended; ``False`` when it has not in time."""
        deadline = time.monotonic() + timeout_s
        while self.process() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def end(self, *, gently: int = signal.SIGTERM, timeout_s: float = 10.0) -> None:
        """Ask the process to end, and kill it when it has not in time."""
        if self.send(gently) and not self.wait_gone(timeout_s):
            self.send(signal.SIGKILL)
            self.wait_gone(5.0)


@dataclass(frozen=True)
class Command:
    """What to run and how it dies."""

    argv: list[str]
    env: Mapping[str, str] = field(default_factory=dict)  # replaces the whole environment when not empty
    cwd: Path | None = None
    account: Account | None = None
    stdin: bytes | None = None  # written at the start; the pipe then stays open
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL  # sent by the kernel when the parent dies
    stop_timeout_s: float = 20.0
    #: Once it is ready it yields the processor to those with a lower figure (0 to 19, as ``nice`` counts).
    niceness: int = 0


def base_env() -> dict[str, str]:
    """The part of the environment that any server may see: nothing secret, nothing that changes a JVM."""
    keep = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
    return {name: os.environ[name] for name in keep if name in os.environ}


def launch_argv(command: Command) -> list[str]:
    """``command`` behind the launcher that drops root and ties it to the life of this process."""
    uid, gid = (str(command.account.uid), str(command.account.gid)) if command.account else ("-", "-")
    head = [
        sys.executable,
        "-I",
        "-S",
        str(_LAUNCHER),
        str(os.getpid()),
        str(int(command.death_signal)),
        uid,
        gid,
    ]
    return [*head, *command.argv]


def start(command: Command, log: Path) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own, appending its output to ``log``.

    Call it from the main thread: the kernel sends the parent-death signal when the *thread* that forked ends.
    The own session keeps a Ctrl-C at the terminal from reaching servers before their supervisor.
    """
    with log.open("ab") as out:
        child = subprocess.Popen(
            launch_argv(command),
            env=dict(command.env) or None,
            cwd=command.cwd or "/",
            stdin=subprocess.DEVNULL if command.stdin is None else subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if command.stdin is not None:
        assert child.stdin is not None
        child.stdin.write(command.stdin)
        child.stdin.flush()
    return child


def run_once(command: Command, log: Path, *, timeout_s: float) -> None:
    """Run ``command`` with its ``stdin`` to its end (initdb, format); raises with the end of its output."""
    with log.open("ab") as out:
        done = subprocess.run(
            launch_argv(command),
            env=dict(command.env) or None,
            cwd=command.cwd or "/",
            input=command.stdin or b"",
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
            start_new_session=True,
        )
    if done.returncode != 0:
        raise RuntimeError(f"{Path(command.argv[0]).name} ended with {done.returncode}:\n{tail(log, 15)}")


def lower_priority(pid: int, niceness: int) -> None:
    """Let a process yield to others: all of its threads, and its session where the kernel groups by session.

    With ``sched_autogroup`` (most desktops and many servers) niceness counts only inside a session, and
    every process of the stack has its own; there the session's own figure decides.
    """
    if sys.platform != "linux":
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
        return
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)
        except ProcessLookupError:
            continue  # that thread has ended
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists():
        group.write_text(str(niceness))


def tail(log: Path, lines: int) -> str:
    """The last ``lines`` lines of a log file (at most 64 KiB of it)."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 65536))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
