"""Starting and ending a stack from outside: what ``up``, ``down`` and the tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from cli.stack import ports, process, servers, state
from cli.stack.paths import CHECKOUT, Layout
from cli.stack.process import Command
from cli.stack.provision import provision
from cli.stack.state import StackState
from nexafi.settings import Settings

_STOP_TIMEOUT_S = 90.0
_POLL_S = 0.1
#: So many crashes of one process before all works, and waiting on is pointless.
_CRASHES_AT_START = 4


class StartError(RuntimeError):
    """The stack did not come up; the message says why and what to do."""


def start(
    layout: Layout,
    settings: Settings,
    *,
    server_names: list[str],
    group_names: list[str],
    console: Console,
    env: Mapping[str, str] | None = None,
    bound_to_caller: bool = False,
) -> bool:
    """Start a supervisor for ``layout`` and return at once; ``False`` when one runs already.

    ``bound_to_caller`` ties the supervisor to this process (it then stops in order when this process dies);
    call it from the main thread.
    """
    layout.create()
    with state.up_lock(layout.run):
        if state.is_running(layout.run):
            return False
        before = state.read(layout.run)
        if before is not None:
            for name in state.end_leftovers(before):
                console.print(f"[yellow]{name} was left by a supervisor that is gone: ended[/]")
        embedded = {name for name in server_names if not servers.is_external(name, settings)}
        if taken := ports.taken(settings, sorted(embedded), group_names):
            raise StartError(ports.explain(taken))
        if embedded:
            provision(layout, embedded, console)
        _spawn(layout, server_names, group_names, env or {}, bound=bound_to_caller)
    return True


def _spawn(
    layout: Layout, server_names: list[str], group_names: list[str], env: Mapping[str, str], *, bound: bool
) -> None:
    argv = [sys.executable, "-m", "cli.stack.supervisor", "--data", str(layout.root)]
    argv += ["--servers", ",".join(server_names), "--groups", ",".join(group_names)]
    environment = dict(os.environ) | dict(env) | {"NEXAFI_CACHE_DIR": str(layout.cache)}
    log = layout.logs / "supervisor.log"
    if bound:
        child = process.start(Command(argv, env=environment, cwd=CHECKOUT, death_signal=signal.SIGTERM), log)
    else:
        with log.open("ab") as out:
            child = subprocess.Popen(
                argv,
                env=environment,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    deadline = time.monotonic() + 20
    while not _is_first_state_of(child.pid, layout.run):
        if child.poll() is not None or time.monotonic() > deadline:
            raise StartError(f"The supervisor did not start:\n{process.tail(log, 15)}")
        time.sleep(0.02)


def _is_first_state_of(pid: int, run: Path) -> bool:
    found = state.read(run)
    return found is not None and found.supervisor_pid == pid


def wait_ready(
    layout: Layout, *, timeout_s: float, show: Callable[[StackState], None] | None = None
) -> StackState:
    """Wait until all works; raises :class:`StartError` with the reason when it does not."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = state.read(layout.run)
        assert found is not None, "a started supervisor writes its state"
        if show is not None:
            show(found)
        if found.phase == "ready":
            return found
        if found.phase in {"failed", "stopped"} or not state.is_running(layout.run):
            raise StartError(
                found.error or f"The supervisor ended:\n{process.tail(layout.logs / 'supervisor.log', 10)}"
            )
        for name, process_ in found.processes.items():
            if process_.restarts >= _CRASHES_AT_START:
                raise StartError(f"{name} crashed {process_.restarts} times: {process_.problem}")
        if time.monotonic() > deadline:
            waiting = [
                f"  {name}: {p.condition}, {p.problem}" for name, p in found.processes.items() if p.problem
            ]
            raise StartError(f"Not ready after {timeout_s:.0f} s:\n" + "\n".join(waiting))
        time.sleep(_POLL_S)


def stop(layout: Layout, *, timeout_s: float = _STOP_TIMEOUT_S) -> bool:
    """End the stack in order; ``False`` when none runs. Nothing that the stack did not start is signalled."""
    found = state.read(layout.run)
    if found is None:
        return False
    was_running = state.is_running(layout.run)
    if was_running:
        found.supervisor.end(gently=signal.SIGTERM, timeout_s=timeout_s)
        found = state.read(layout.run) or found
    state.end_leftovers(found)
    return was_running
