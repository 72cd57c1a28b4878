"""The process that owns a stack: starts the servers, runs the steps, keeps the roles, ends all in order.

Everything it starts is tied to its life by the kernel (``cli.stack.launch``), so that its own end, even by
SIGKILL, leaves nothing behind; the data folder is held by a lock that the kernel frees.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli import roles
from cli.stack import logfiles, secrets, servers, state
from cli.stack.child import Child
from cli.stack.paths import CHECKOUT, Layout
from cli.stack.process import Command, Identity, tail
from cli.stack.programs import locate
from cli.stack.roleprobe import probe_readyz
from cli.stack.servers.postgres import Postgres
from cli.stack.state import ProcessState, StackState
from nexafi.settings import Settings

log = logging.getLogger("nexafi.supervisor")

_THREADS = 16
_STATE_EVERY_S = 0.1
_ROTATE_EVERY_S = 5.0
_BOOTSTRAP_TIMEOUT_S = 180.0
_SERVER_STOP_TIERS = (("kafka", "elasticsearch"), ("postgres", "valkey"))


class Supervisor:
    """One stack. ``server_names`` and ``group_names`` say what is wanted."""

    def __init__(
        self, layout: Layout, settings: Settings, server_names: list[str], group_names: list[str]
    ) -> None:
        self.layout = layout
        self.settings = settings
        self.server_names = server_names
        self.group_names = group_names
        self.stop = asyncio.Event()
        self.children: dict[str, Child] = {}
        self._dirty = True
        self._begun = time.monotonic()
        me = Identity.of(os.getpid())
        self.state = StackState(
            supervisor_pid=me.pid,
            supervisor_started=me.started,
            port_base=settings.port_base,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    # --- life

    async def run(self) -> int:
        """Until told to stop. Returns the exit status."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_THREADS))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._told_to_stop, number)
        background = [asyncio.create_task(self._write_states()), asyncio.create_task(self._rotate_logs())]
        keepers: list[asyncio.Task[None]] = []
        try:
            self._plan()
            keepers = [
                asyncio.create_task(child.keep(), name=name) for name, child in self._of_kind("server")
            ]
            start = asyncio.create_task(self._bring_up(keepers))
            stopped = asyncio.create_task(self.stop.wait())
            await asyncio.wait({start, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if start.done() and (error := start.exception()) is not None:
                self._fail(error)
            await stopped
            start.cancel()
            await asyncio.gather(start, return_exceptions=True)
        finally:
            self.state.phase = "failed" if self.state.error else "stopping"
            await self._end_children()
            await asyncio.gather(*keepers, *self._role_keepers, return_exceptions=True)
            for task in background:
                task.cancel()
            self.state.phase = "failed" if self.state.error else "stopped"
            state.write(self.layout.run, self.state)
        return 1 if self.state.error else 0

    _role_keepers: tuple[asyncio.Task[None], ...] = ()

    def _told_to_stop(self, number: int) -> None:
        log.info("told to stop by %s", signal.Signals(number).name)
        self.stop.set()

    def _fail(self, error: BaseException) -> None:
        log.error("the stack could not start: %s", error)
        self.state.error = str(error)
        self.stop.set()

    async def _bring_up(self, server_keepers: list[asyncio.Task[None]]) -> None:
        """Return when all that was asked for works or was given up; raises when a server can not start."""
        watch: asyncio.Future[list[None]] = asyncio.gather(*server_keepers)
        work = asyncio.create_task(self._start_rest())
        waited: set[asyncio.Future[Any]] = {watch, work}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if watch.done() and watch.exception() is not None:
            work.cancel()
            await watch
        await work
        self.state.ready_after_s = round(time.monotonic() - self._begun, 1)
        if self.state.phase == "starting":
            self.state.phase = "ready"
            log.info("ready after %.1f s", self.state.ready_after_s)
        self._changed()

    async def _start_rest(self) -> None:
        await self._external_ready()
        if "postgres" in self.children:
            await self._server_ready("postgres")
            await asyncio.to_thread(Postgres(self.layout, None, self.settings).create_database)
        if self.group_names:
            await self._bootstrap()
            self._role_keepers = tuple(
                asyncio.create_task(self._keep_group(child), name=name)
                for name, child in self._of_kind("roles")
            )
        for child in self.children.values():
            await child.settled.wait()
        deciders = self.children.get("deciders")
        if deciders is not None and deciders.ready.is_set():
            await self._bootstrap(after_roles=True)

    async def _keep_group(self, child: Child) -> None:
        for server in roles.GROUPS[child.name].needs:
            await self._server_ready(server)
        await child.keep()

    async def _server_ready(self, name: str) -> None:
        if name in self.children:
            await self.children[name].ready.wait()

    async def _external_ready(self) -> None:
        for name in servers.SERVERS:
            shown = self.state.processes.get(name)
            if shown is None or shown.condition != "external":
                continue
            probe = servers.make(name, self.layout, None, self.settings).probe
            while (problem := await asyncio.to_thread(probe)) is not None:
                if shown.problem != problem:
                    log.warning("waiting for %s at its own address: %s", name, problem)
                shown.problem = problem
                self._changed()
                await asyncio.sleep(1)
            shown.problem = None

    async def _end_children(self) -> None:
        self._changed()
        tiers: list[list[Child]] = []
        by_tier = sorted({roles.GROUPS[name].stop_tier for name in self.group_names})
        tiers += [
            [self.children[n] for n in self.group_names if roles.GROUPS[n].stop_tier == tier]
            for tier in by_tier
        ]
        tiers += [[self.children[n] for n in names if n in self.children] for names in _SERVER_STOP_TIERS]
        for tier in tiers:
            await asyncio.gather(*(child.stop() for child in tier))
            self._changed()

    # --- what is wanted

    def _plan(self) -> None:
        embedded = [name for name in self.server_names if not servers.is_external(name, self.settings)]
        programs = locate(self.layout) if embedded else None
        for name in self.server_names:
            server = servers.make(name, self.layout, programs, self.settings)
            if name not in embedded:
                self.state.processes[name] = ProcessState(
                    kind="server", condition="external", address=_bare(server.address)
                )
                continue
            log_file = self.layout.logs / f"{name}.log"
            shown = ProcessState(
                kind="server", port=self.settings.port(server.ports[0]), address=_bare(server.address)
            )
            self._add(
                Child(
                    name,
                    shown,
                    log_file,
                    server.command,
                    server.probe,
                    self._changed,
                    _in_thread(server.prepare, log_file),
                )
            )
        if self.group_names:
            self.state.processes["bootstrap"] = ProcessState(kind="step")
        for name in self.group_names:
            port = self.settings.port("health") + roles.health_port_offset(name)
            shown = ProcessState(
                kind="roles", port=port, address=f"http://{self.settings.host}:{port}/readyz"
            )
            command = self._group_command(name, port)
            self._add(
                Child(
                    name,
                    shown,
                    self.layout.logs / f"{name}.log",
                    lambda command=command: command,  # type: ignore[misc]
                    lambda port=port: probe_readyz(self.settings.host, port),  # type: ignore[misc]
                    self._changed,
                )
            )
        self._changed()

    def _add(self, child: Child) -> None:
        self.children[child.name] = child
        self.state.processes[child.name] = child.state

    def _of_kind(self, kind: str) -> list[tuple[str, Child]]:
        return [(name, child) for name, child in self.children.items() if child.state.kind == kind]

    def _role_env(self, instance: str) -> dict[str, str]:
        return (
            dict(os.environ)
            | secrets.for_roles(self.layout)
            | {"NEXAFI_DATA_DIR": str(self.layout.root), "NEXAFI_INSTANCE": instance, "PYTHONUNBUFFERED": "1"}
            | {"MALLOC_ARENA_MAX": "2"}  # glibc would keep an arena a thread: tens of MB in each process
        )

    def _group_command(self, name: str, port: int) -> Command:
        argv = [sys.executable, "-m", "cli.runner", "--health-port", str(port), *roles.GROUPS[name].roles]
        return Command(
            argv,
            env=self._role_env(name),
            cwd=CHECKOUT,
            stop_timeout_s=20.0,
            niceness=roles.GROUPS[name].niceness,
        )

    async def _bootstrap(self, *, after_roles: bool = False) -> None:
        """Run the steps in a process of their own: what they import is gone from memory afterwards."""
        shown = self.state.processes["bootstrap"]
        result = self.layout.run / "bootstrap.json"
        result.unlink(missing_ok=True)
        log_file = self.layout.logs / "bootstrap.log"
        argv = [sys.executable, "-m", "cli.bootstrap", "--result", str(result)]
        argv += ["--after-roles"] if after_roles else []
        child = Child(
            "bootstrap",
            shown,
            log_file,
            lambda: Command(argv, env=self._role_env("bootstrap"), cwd=CHECKOUT, stop_timeout_s=2.0),
            lambda: None,
            self._changed,
        )
        running = await child.start()
        try:
            status = await asyncio.wait_for(running.wait(), _BOOTSTRAP_TIMEOUT_S)
        except BaseException:
            await child.stop()
            raise
        if status != 0:
            shown.condition, shown.problem = "broken", tail(log_file, 1)
            raise RuntimeError(
                f"The steps {'after' if after_roles else 'before'} the roles failed (./dev logs bootstrap):\n{tail(log_file, 12)}"
            )
        shown.condition, shown.problem = "done", None
        self.state.demo = json.loads(result.read_text())
        self._changed()

    # --- what others see

    def _changed(self) -> None:
        self._dirty = True

    async def _write_states(self) -> None:
        while True:
            if self._dirty:
                self._dirty = False
                state.write(self.layout.run, self.state)
            await asyncio.sleep(_STATE_EVERY_S)

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.to_thread(logfiles.bound, self.layout.logs)
            await asyncio.sleep(_ROTATE_EVERY_S)


def _in_thread(prepare: Callable[[Path], None], log_file: Path) -> Callable[[], asyncio.Future[None]]:
    return lambda: asyncio.ensure_future(asyncio.to_thread(prepare, log_file))


def _bare(address: str) -> str:
    """An address without the password that it may carry."""
    head, at, tail_ = address.rpartition("@")
    if not at:
        return address
    scheme, _, login = head.partition("://")
    user = login.partition(":")[0]
    return f"{scheme}://{user}@{tail_}" if user else f"{scheme}://{tail_}"


def main() -> int:
    """Entry point of the supervisor's process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--servers", default="")
    parser.add_argument("--groups", default="")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    os.umask(0o022)
    layout = Layout.here(options.data)
    layout.create()
    with state.supervisor_lock(layout.run):
        before = state.read(layout.run)
        if before is not None:
            for name in state.end_leftovers(before):
                log.warning("%s was left by a supervisor that is gone: ended", name)
        secrets.ensure(layout)
        settings = Settings(data_dir=layout.root)
        return asyncio.run(
            Supervisor(layout, settings, _names(options.servers), _names(options.groups)).run()
        )


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


if __name__ == "__main__":
    sys.exit(main())
