"""Processes: only ours are signalled, ends are seen, what will not end is killed. Real processes, short ones."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import psutil
import pytest

from cli.roles import EXIT_BROKEN
from cli.stack import process, state
from cli.stack.child import Child, ServerBrokenError
from cli.stack.process import Command, Identity
from cli.stack.state import ProcessState, StackState


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]) as child:
        yield child
        child.kill()


def test_a_later_process_with_the_same_pid_is_another(sleeper: subprocess.Popen[bytes]) -> None:
    mine = Identity.of(sleeper.pid)
    other = Identity(mine.pid, mine.started - 100)
    assert mine.process() is not None
    assert other.process() is None
    assert not other.send(signal.SIGKILL)
    other.end()
    assert sleeper.poll() is None, "a process that is not ours was ended"


def test_a_zombie_has_ended(sleeper: subprocess.Popen[bytes]) -> None:
    identity = Identity.of(sleeper.pid)
    sleeper.kill()
    assert identity.wait_gone(5)


def test_leftovers_of_a_state_are_ended(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    identity = Identity.of(sleeper.pid)
    found = StackState(supervisor_pid=1, supervisor_started=0, port_base=5000)
    found.processes["kafka"] = ProcessState(kind="server", pid=identity.pid, started=identity.started)
    found.processes["valkey"] = ProcessState(kind="server", pid=os.getpid(), started=1.0)
    state.write(tmp_path, found)
    read = state.read(tmp_path)
    assert read is not None
    assert state.end_leftovers(read) == ["kafka"]
    assert identity.process() is None


def test_only_one_supervisor_holds_a_folder(tmp_path: Path) -> None:
    assert not state.is_running(tmp_path)
    with state.supervisor_lock(tmp_path):
        assert state.is_running(tmp_path)
        with pytest.raises(state.AlreadyRunningError), state.supervisor_lock(tmp_path):
            pass
    assert not state.is_running(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_child_dies_with_its_parent_and_so_does_nobody_else(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from cli.stack import process\n"
        f"c = process.start(process.Command([{sys.executable!r}, '-S', '-c', 'import time; time.sleep(60)']), "
        f"Path({str(tmp_path / 'log')!r}))\n"
        "print(c.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Identity.of(int(parent.stdout.readline()))
        parent.kill()
    assert child.wait_gone(5)


def test_a_command_that_fails_says_what_it_wrote(tmp_path: Path) -> None:
    command = Command([sys.executable, "-S", "-c", "import sys; print('disk is full'); sys.exit(3)"])
    with pytest.raises(RuntimeError, match=r"ended with 3:\ndisk is full"):
        process.run_once(command, tmp_path / "log", timeout_s=20)


# --- keeping a child


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)


def _child(
    tmp_path: Path, code: str, *, kind: Literal["server", "roles"] = "roles", stop_timeout_s: float = 5.0
) -> Child:
    command = Command([sys.executable, "-S", "-c", code], stop_timeout_s=stop_timeout_s)
    shown = ProcessState(kind=kind)
    return Child("it", shown, tmp_path / "it.log", lambda: command, lambda: None, lambda: None)


async def test_a_crash_is_counted_shown_and_mended(tmp_path: Path) -> None:
    child = _child(tmp_path, "import time; print('boom', flush=True); time.sleep(0.3); raise SystemExit(7)")
    keeper = asyncio.create_task(child.keep())
    await asyncio.to_thread(_until, lambda: child.state.restarts >= 2)
    assert child.state.restarts >= 2
    assert child.state.last_exit == "ended with status 7"
    await child.stop()
    await keeper
    assert child.state.condition == "stopped"


async def test_a_process_that_can_not_work_is_not_started_again(tmp_path: Path) -> None:
    child = _child(tmp_path, f"print('no such role', flush=True); raise SystemExit({EXIT_BROKEN})")
    await asyncio.wait_for(child.keep(), 20)
    assert (child.state.condition, child.state.problem, child.state.restarts) == ("broken", "no such role", 0)
    assert child.settled.is_set()


async def test_a_server_that_never_answers_ends_the_start(tmp_path: Path) -> None:
    child = _child(tmp_path, "print('bad config', flush=True); raise SystemExit(1)", kind="server")
    child.probe = lambda: "refused"
    with pytest.raises(ServerBrokenError, match="bad config"):
        await asyncio.wait_for(child.keep(), 20)


async def test_what_does_not_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    child = _child(tmp_path, code, stop_timeout_s=0.3)
    keeper = asyncio.create_task(child.keep())
    await asyncio.to_thread(
        _until, lambda: child.log_file.exists() and child.log_file.read_text().strip() != ""
    )
    grandchild = psutil.Process(int((tmp_path / "it.log").read_text()))
    await child.stop()
    await keeper
    assert child.state.last_exit == "was killed by SIGKILL"
    psutil.wait_procs([grandchild], timeout=5)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE
