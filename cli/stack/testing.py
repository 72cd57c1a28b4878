"""Real servers for tests, without roles: what the ``stack`` fixture of ``tests/conftest.py`` uses."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cli.stack import control, ports, servers, state
from cli.stack.paths import Layout, checkout_id
from nexafi.settings import Settings

ALL_SERVERS = frozenset(servers.SERVERS)
_START_TIMEOUT_S = 240.0
_PORT_TRIES = 3


@dataclass
class Stack:
    """Running servers. ``settings`` has their addresses set, so they count as external to whoever uses it."""

    settings: Settings
    layout: Layout
    own: bool

    def pid(self, name: str) -> int:
        """Process of one server, for tests that kill it (the supervisor starts it again)."""
        found = state.read(self.layout.run)
        assert found is not None
        pid = found.processes[name].pid
        assert pid is not None, f"{name} is not embedded"
        return pid

    def stop(self) -> None:
        """End the servers when this process started them."""
        if self.own:
            control.stop(self.layout)


def environment(settings: Settings) -> dict[str, str]:
    """The variables that lead another process to the same servers."""
    return {
        "NEXAFI_DATABASE_URL": settings.database,
        "NEXAFI_KAFKA_BOOTSTRAP": settings.kafka,
        "NEXAFI_REDIS_URL": settings.redis,
        "NEXAFI_ELASTICSEARCH_URL": settings.elasticsearch,
        "NEXAFI_PORT_BASE": str(settings.port_base),
        "NEXAFI_DATA_DIR": str(settings.data_dir),
    }


def _with_addresses(base: Settings) -> Settings:
    return base.model_copy(
        update={
            "database_url": base.database,
            "kafka_bootstrap": base.kafka,
            "redis_url": base.redis,
            "elasticsearch_url": base.elasticsearch,
        }
    )


def start_servers(
    which: Iterable[str] = ALL_SERVERS,
    data_dir: Path | None = None,
    port_base: int | None = None,
    *,
    bound: bool = True,
) -> Stack:
    """Start ``which`` servers and wait until they answer. Call it from the main thread.

    They end with :meth:`Stack.stop`, or, when ``bound``, with this process, however it ends. An address in
    the environment (``NEXAFI_DATABASE_URL``, ...) is used instead of starting that server.
    """
    wanted = [name for name in servers.SERVERS if name in set(which)]
    root = data_dir or Path(tempfile.mkdtemp(prefix="nexafi-test-"))
    if port_base is not None:
        return _start(wanted, root, port_base, bound=bound)
    for _ in range(_PORT_TRIES - 1):
        try:
            return _start(wanted, root, ports.free_port_base(), bound=bound)
        except control.StartError as error:
            if "in use" not in str(error) and "is taken" not in str(error):
                raise  # else another process was faster to take a port: other ports, then
    return _start(wanted, root, ports.free_port_base(), bound=bound)


def _start(wanted: list[str], root: Path, port_base: int, *, bound: bool) -> Stack:
    layout = Layout.here(root)
    layout.create()
    settings = Settings(port_base=port_base, data_dir=root)
    control.start(
        layout,
        settings,
        server_names=wanted,
        group_names=[],
        console=Console(stderr=True),
        env={"NEXAFI_PORT_BASE": str(port_base), "NEXAFI_DATA_DIR": str(root)},
        bound_to_caller=bound,
    )
    known = Settings(port_base=port_base, data_dir=root)  # its passwords were made by the start
    stack = Stack(_with_addresses(known), layout, own=True)
    try:
        control.wait_ready(layout, timeout_s=_START_TIMEOUT_S)
    except BaseException:
        stack.stop()
        raise
    return stack


def shared_data_dir() -> Path:
    """Where the servers that outlive a pytest run keep their data (`nexafi teststack up`)."""
    chosen = os.environ.get("NEXAFI_TEST_STACK")
    if chosen:
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/lib/nexafi") / f"{checkout_id()}-test"
    return Path.home() / ".cache" / "nexafi" / f"{checkout_id()}-test"


def running_shared() -> Stack | None:
    """The shared servers when they run. ``NEXAFI_TEST_STACK=none`` never uses them."""
    if os.environ.get("NEXAFI_TEST_STACK") == "none":
        return None
    root = shared_data_dir()
    layout = Layout.here(root)
    found = state.read(layout.run)
    if found is None or not state.is_running(layout.run):
        return None
    control.wait_ready(layout, timeout_s=_START_TIMEOUT_S)
    return Stack(_with_addresses(Settings(port_base=found.port_base, data_dir=root)), layout, own=False)


def remove(stack: Stack) -> None:
    """Remove the data of servers that have been stopped."""
    shutil.rmtree(stack.layout.root)
