"""Test servers in containers, through testcontainers: the four of ``docker-compose.yml``, as they are there.

Used where a Docker engine answers and either ``NEXAFI_TEST_STACK=containers`` says so or the local stack can not
run on this machine (no build of its wheels). The compose file is the only place that says which images and settings.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml

from cli.stack import ports, programs, servers
from cli.stack.paths import Layout
from nexafi.settings import Settings
from tests.kit.source import ROOT

Kind = Literal["shared", "local", "containers"]
#: ``None`` when the server answers, else what is wrong in words.
Probe = Callable[[str, Settings], str | None]

#: The port on which each server listens in its container.
PORTS = {"postgres": 5432, "kafka": 9094, "valkey": 6379, "elasticsearch": 9200}
_READY_TIMEOUT_S = 180.0
_ENGINE_TIMEOUT_S = 5


class NoServersError(RuntimeError):
    """Neither the local stack nor a Docker engine can give servers to the tests."""


def engine_problem() -> str | None:
    """``None`` when a Docker engine answers (``DOCKER_HOST`` or its usual socket), else why not."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=_ENGINE_TIMEOUT_S)
        try:
            client.ping()
        finally:
            client.close()
    except DockerException as error:
        return str(error)
    return None


def local_problem() -> str | None:
    """``None`` when the servers of the local stack are built for this machine, else why not."""
    try:
        found = programs.locate(Layout.here())
    except (programs.ProgramMissingError, RuntimeError) as error:
        return str(error)
    if not found.valkey_server.exists():
        return f"{found.valkey_server} does not exist: there is no build for this machine"
    return None


def choose(
    environment: Mapping[str, str],
    *,
    shared_runs: bool,
    local: Callable[[], str | None] = local_problem,
    engine: Callable[[], str | None] = engine_problem,
) -> Kind:
    """Which servers the tests get; raises :class:`NoServersError` with the reasons when there are none."""
    if environment.get("NEXAFI_TEST_STACK") == "containers":
        if problem := engine():
            raise NoServersError(f"NEXAFI_TEST_STACK=containers, but no Docker engine answers: {problem}")
        return "containers"
    if shared_runs:
        return "shared"
    if (no_local := local()) is None:
        return "local"
    if (no_engine := engine()) is None:
        return "containers"
    raise NoServersError(
        f"the local stack can not run ({no_local}), and no Docker engine answers ({no_engine})"
    )


@dataclass
class Definition:
    """One server of the compose file, ready to be made."""

    image: str
    environment: dict[str, str]
    command: list[str] | None
    nofile: int | None


def definitions(*, password: str, kafka_address: str) -> dict[str, Definition]:
    """The servers of ``docker-compose.yml``. Kafka has to know beforehand at which address clients reach it."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    found = {name: _definition(services[name]) for name in PORTS}
    found["postgres"].environment["POSTGRES_PASSWORD"] = password
    kafka = found["kafka"].environment
    # One container has no network with names: the broker reaches itself on the loopback interface.
    kafka["KAFKA_CONTROLLER_QUORUM_VOTERS"] = "1@localhost:9093"
    kafka["KAFKA_ADVERTISED_LISTENERS"] = f"INSIDE://localhost:9092,HOST://{kafka_address}"
    return found


def _definition(service: Mapping[str, Any]) -> Definition:
    environment = {name: str(value) for name, value in service.get("environment", {}).items()}
    command = [str(word) for word in service["command"]] if "command" in service else None
    return Definition(service["image"], environment, command, service.get("ulimits", {}).get("nofile"))


class Containers:
    """The running containers; ``settings`` lead to them."""

    def __init__(self, settings: Settings, running: ExitStack) -> None:
        self.settings = settings
        self._running = running

    def stop(self) -> None:
        """Remove the containers with their data."""
        self._running.close()


def answers(name: str, settings: Settings) -> str | None:
    """Ask the server what the local stack would ask it."""
    return servers.make(name, Layout.here(settings.data_dir), None, settings).probe()


def start(probe: Probe = answers, *, timeout_s: float = _READY_TIMEOUT_S) -> Containers:
    """Start the four servers side by side and wait until they answer; nothing stays when one does not."""
    from docker.types import Ulimit
    from testcontainers.core.container import DockerContainer

    password, kafka_port = secrets.token_urlsafe(24), ports.free_port_base()
    with ExitStack() as running:
        host = _engine_host()
        wanted = definitions(password=password, kafka_address=f"{host}:{kafka_port}")
        at: dict[str, int] = {}
        for name, each in wanted.items():
            container = DockerContainer(each.image).with_envs(**each.environment)
            container.with_bind_ports(PORTS[name], kafka_port if name == "kafka" else None)
            if each.command is not None:
                container.with_command(each.command)
            if each.nofile is not None:
                container.with_kwargs(ulimits=[Ulimit(name="nofile", soft=each.nofile, hard=each.nofile)])
            container.start()
            running.callback(container.stop)
            at[name] = int(container.get_exposed_port(PORTS[name]))
        settings = Settings(
            data_dir=Path(running.enter_context(tempfile.TemporaryDirectory(prefix="nexafi-containers-"))),
            database_url=f"postgresql://nexafi:{password}@{host}:{at['postgres']}/nexafi",
            kafka_bootstrap=f"{host}:{at['kafka']}",
            redis_url=f"redis://{host}:{at['valkey']}/0",
            elasticsearch_url=f"http://{host}:{at['elasticsearch']}",
        )
        _wait(partial(probe, settings=settings), timeout_s)
        return Containers(settings, running.pop_all())


def _engine_host() -> str:
    """Where published ports are: this machine, or the one of ``DOCKER_HOST``."""
    from testcontainers.core.docker_client import DockerClient

    client = DockerClient()
    try:
        host = client.host()
    finally:
        client.client.close()
    return "127.0.0.1" if host == "localhost" else str(host)


def _wait(probe: Callable[[str], str | None], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    for name in PORTS:
        while (problem := probe(name)) is not None:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the container of {name} does not answer after {timeout_s:.0f} s: {problem}"
                )
            time.sleep(0.2)
