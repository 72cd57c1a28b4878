"""The installation that is measured: one of its own on free ports and in an empty folder, or the one that runs.

Its own one is what a doubter would want: nothing of yesterday in it, nobody else's load on it, and the very roles
that ``./dev up`` and ``nexafi run`` start. Its data lie on the same disk as a real one's, so an fsync costs the same.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from cli.roles import GROUPS
from cli.stack import control, ports, process, secrets, servers, state, testing
from cli.stack.paths import CHECKOUT, Layout, data_dir
from cli.stack.roleprobe import probe_readyz
from nexafi.settings import Settings

_START_TIMEOUT_S: Final = 240.0
_READY_TIMEOUT_S: Final = 120.0
#: Health ports of roles that a benchmark starts by itself lie above those of the groups.
_HEALTH_OFFSET: Final = 20
_ADDRESSES: Final = (
    "NEXAFI_DATABASE_URL",
    "NEXAFI_KAFKA_BOOTSTRAP",
    "NEXAFI_REDIS_URL",
    "NEXAFI_ELASTICSEARCH_URL",
    "NEXAFI_PORT_BASE",
    "NEXAFI_DATA_DIR",
)


@dataclass
class RoleProcess:
    """A process of roles that a benchmark started: ``python -m cli.runner``, as the supervisor does."""

    name: str
    child: subprocess.Popen[bytes]
    health_port: int
    host: str

    @property
    def pid(self) -> int:
        """Of the process that runs the roles (the launcher became it)."""
        return self.child.pid

    def wait_ready(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Return when ``/readyz`` says so; raises with what is wrong."""
        deadline = time.monotonic() + timeout_s
        while (problem := probe_readyz(self.host, self.health_port)) is not None:
            if self.child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} is not ready: {problem}")
            time.sleep(0.1)

    def details(self) -> dict[str, Any]:
        """The figures that the roles tell about themselves."""
        link = http.client.HTTPConnection(self.host, self.health_port, timeout=5)
        try:
            link.request("GET", "/readyz")
            found: dict[str, Any] = json.loads(link.getresponse().read())
        finally:
            link.close()
        details: dict[str, Any] = found.get("details", {})
        return details

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> None:
        """Signal it and wait until it is gone."""
        if self.child.poll() is None:
            self.child.send_signal(number)
            try:
                self.child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait(10)


@dataclass
class Installation:
    """Running servers, with or without the roles of the local stack."""

    settings: Settings
    layout: Layout
    own: bool
    roles: list[RoleProcess] = field(default_factory=list)

    @property
    def words(self) -> str:
        """What is measured, for people."""
        kind = (
            "an installation of its own, made empty for this run"
            if self.own
            else "the installation that runs"
        )
        return f"{kind} (ports from {self.settings.port_base}, data in {self.layout.root})"

    def pids(self) -> dict[str, int]:
        """Server, group of roles or own role -> process."""
        found = state.read(self.layout.run)
        assert found is not None
        pids = {name: p.pid for name, p in found.processes.items() if p.kind != "step" and p.pid is not None}
        return pids | {role.name: role.pid for role in self.roles if role.child.poll() is None}

    def environment(self) -> dict[str, str]:
        """What a command or role of this installation needs to see."""
        return (
            dict(os.environ)
            | testing.environment(self.settings)
            | secrets.for_roles(self.layout)
            | {"PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2"}
        )

    def start_role(self, *roles: str, name: str = "", **extra: str) -> RoleProcess:
        """Start roles in a process of their own; ``extra`` are more variables of its environment."""
        label = name or roles[0]
        port = self.settings.port("health") + _HEALTH_OFFSET + len(self.roles)
        argv = [sys.executable, "-m", "cli.runner", "--health-port", str(port), *roles]
        env = self.environment() | {"NEXAFI_INSTANCE": label} | extra
        child = process.start(process.Command(argv, env=env, cwd=CHECKOUT), self.layout.logs / f"{label}.log")
        role = RoleProcess(label, child, port, self.settings.host)
        self.roles.append(role)
        return role

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a ``nexafi`` command on this installation; raises with its output when it fails and ``check`` is set."""
        done = subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            cwd=CHECKOUT,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"nexafi {' '.join(arguments)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done

    def end(self) -> None:
        """End the roles that were started here, and all else when it is of its own."""
        for role in self.roles:
            role.end()
        if self.own:
            control.stop(self.layout)


@contextmanager
def own(*, groups: bool, keep: bool = False) -> Iterator[Installation]:
    """An empty installation: the servers, and with ``groups`` everything that ``./dev up`` starts.

    Call it from the main thread. Its data are removed afterwards unless ``keep`` is set.
    """
    layout = Layout.here(_folder("whole" if groups else "servers"))
    for name in _ADDRESSES:
        os.environ.pop(
            name, None
        )  # a benchmark never writes into a database that somebody named for real work
    if layout.root.exists():
        control.stop(layout)  # of a run that was killed
        layout.wipe()
    layout.create()
    settings = Settings(port_base=ports.free_port_base(), data_dir=layout.root)
    wanted = list(servers.SERVERS)
    control.start(
        layout,
        settings,
        server_names=wanted,
        group_names=list(GROUPS) if groups else [],
        console=Console(stderr=True),
        env={"NEXAFI_PORT_BASE": str(settings.port_base), "NEXAFI_DATA_DIR": str(layout.root)},
        bound_to_caller=True,
    )
    known = Settings(
        port_base=settings.port_base, data_dir=layout.root
    )  # its passwords were made by the start
    made = Installation(_with_key(known, layout), layout, own=True)
    try:
        control.wait_ready(layout, timeout_s=_START_TIMEOUT_S)
        yield made
    finally:
        made.end()
        if not keep:
            layout.wipe()


def running() -> Installation | None:
    """The installation of this checkout when it runs with all its roles."""
    layout = Layout.here()
    found = state.read(layout.run)
    if found is None or not state.is_running(layout.run) or not set(GROUPS) <= set(found.processes):
        return None
    settings = Settings(port_base=found.port_base, data_dir=layout.root)
    return Installation(_with_key(settings, layout), layout, own=False)


def _with_key(settings: Settings, layout: Layout) -> Settings:
    """Settings with the addresses set, so that a child uses these servers, and with this installation's secrets."""
    update: dict[str, Any] = {
        "database_url": settings.database,
        "kafka_bootstrap": settings.kafka,
        "redis_url": settings.redis,
        "elasticsearch_url": settings.elasticsearch,
    }
    key = secrets.load(layout).get("NEXAFI_HMAC_KEY")
    return settings.model_copy(update=update | ({"hmac_key": type(settings.hmac_key)(key)} if key else {}))


def _folder(name: str) -> Path:
    """Beside the data of this checkout's own installation, so on the same disk."""
    here = data_dir()
    return here.with_name(f"{here.name}-bench-{name}")
