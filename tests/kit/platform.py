"""A whole platform for tests: four real servers and every role as a real process, started once for a run.

``NEXAFI_TEST_PLATFORM`` names the data folder of one that runs already (`NEXAFI_DATA_DIR=... NEXAFI_PORT_BASE=...
nexafi up`), so that the inner loop takes no start. It is never stopped from here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from cli.roles import GROUPS
from cli.stack import control, ports, secrets, servers, state
from cli.stack.paths import Layout
from nexafi.settings import Settings

_START_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Platform:
    """A running platform. ``settings`` has its addresses and its secrets."""

    settings: Settings
    layout: Layout

    @property
    def port(self) -> int:
        """The gateway's port on this machine."""
        return self.settings.port("gateway")

    @property
    def url(self) -> str:
        """The gateway's base URL."""
        return f"http://{self.settings.host}:{self.port}"

    def pid(self, name: str) -> int:
        """The process of a group of roles (:data:`cli.roles.GROUPS`) or of a server."""
        found = state.read(self.layout.run)
        assert found is not None
        pid = found.processes[name].pid
        assert pid is not None, f"{name} is not a process of this platform"
        return pid

    def process(self, name: str) -> psutil.Process:
        """The same, to be looked at: memory, open files, connections."""
        return psutil.Process(self.pid(name))

    def log(self, name: str) -> str:
        """What a process has written so far."""
        return (self.layout.logs / f"{name}.log").read_text(errors="replace")


def running(root: Path) -> Platform:
    """The platform whose data are in ``root``; it must run."""
    layout = Layout.here(root)
    found = control.wait_ready(layout, timeout_s=_START_TIMEOUT_S)
    return Platform(_settings(layout, found.port_base), layout)


@contextmanager
def platform_of_its_own() -> Iterator[Platform]:
    """Start one in an empty folder on free ports; it ends with the block, or with this process."""
    root = Path(tempfile.mkdtemp(prefix="nexafi-platform-"))
    layout = Layout.here(root)
    layout.create()
    base = ports.free_port_base()
    control.start(
        layout,
        Settings(port_base=base, data_dir=root),
        server_names=list(servers.SERVERS),
        group_names=list(GROUPS),
        console=Console(stderr=True),
        env={"NEXAFI_PORT_BASE": str(base), "NEXAFI_DATA_DIR": str(root)},
        bound_to_caller=True,
    )
    try:
        yield running(root)
    finally:
        control.stop(layout)
        shutil.rmtree(root, ignore_errors=True)


def platforms() -> Iterator[Platform]:
    """The one that runs already, when the environment names it, else one of its own."""
    if root := os.environ.get("NEXAFI_TEST_PLATFORM"):
        yield running(Path(root))
        return
    with platform_of_its_own() as made:
        yield made


def _settings(layout: Layout, port_base: int) -> Settings:
    values = {
        name.removeprefix("NEXAFI_").lower(): value
        for name, value in secrets.load(layout).items()
        if name.startswith("NEXAFI_")
    }
    return Settings(port_base=port_base, data_dir=layout.root, **values)  # type: ignore[arg-type]
