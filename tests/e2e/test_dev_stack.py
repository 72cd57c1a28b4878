"""The local stack from outside: `nexafi up` and what may happen to it, with real servers and real signals."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from cli.stack import ports
from cli.stack.paths import CHECKOUT
from nexafi.settings import Settings

pytestmark = [pytest.mark.stack, pytest.mark.kill, pytest.mark.timeout(300)]

_ADDRESSES = ("NEXAFI_DATABASE_URL", "NEXAFI_KAFKA_BOOTSTRAP", "NEXAFI_REDIS_URL", "NEXAFI_ELASTICSEARCH_URL")


@dataclass(frozen=True)
class Machine:
    """One stack of its own: a data folder, a range of ports and the command that works on them."""

    data: Path
    port_base: int

    @property
    def settings(self) -> Settings:
        """As of now: passwords are made by the first start."""
        return Settings(port_base=self.port_base, data_dir=self.data)

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _ADDRESSES}
        return kept | {"NEXAFI_DATA_DIR": str(self.data), "NEXAFI_PORT_BASE": str(self.port_base)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments],
            cwd=CHECKOUT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=_as_a_terminal_starts_it,  # noqa: PLW1509 -- it only sets two signals
        )

    def run(self, *arguments: str, status: int = 0) -> str:
        running = self.start(*arguments)
        output, _ = running.communicate(timeout=200)
        assert running.returncode == status, output
        return output

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "run" / "state.json").read_text())
        return found

    def processes(self) -> list[psutil.Process]:
        """Every process on this machine that belongs to this stack, found by its arguments and folders."""
        found = []
        for each in psutil.process_iter(["cmdline", "pid", "status", "cwd"]):
            if each.info["status"] == psutil.STATUS_ZOMBIE or each.pid == os.getpid():
                continue
            words = " ".join(each.info["cmdline"] or []) + " " + (each.info["cwd"] or "")
            if str(self.data) in words:
                found.append(each)
        return found


def _until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture
def machine() -> Iterator[Machine]:
    data = Path(tempfile.mkdtemp(prefix="nexafi-e2e-"))
    made = Machine(data, ports.free_port_base())
    yield made
    made.start("down").wait(120)
    left = made.processes()
    shutil.rmtree(data, ignore_errors=True)
    for each in left:
        each.kill()
    assert left == []


async def _write(settings: Settings) -> None:
    with psycopg.connect(settings.database, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    await admin.create_topics([NewTopic("kept", 2, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", enable_idempotence=True)
    await producer.start()
    for number in range(200):
        await producer.send("kept", str(number).encode(), partition=number % 2)
    await producer.stop()


async def _read(settings: Settings) -> tuple[int, int]:
    with psycopg.connect(settings.database) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka)
    await consumer.start()
    ends = await consumer.end_offsets([TopicPartition("kept", 0), TopicPartition("kept", 1)])
    await consumer.stop()
    return (row[0] if row else 0), sum(ends.values())


def test_a_killed_supervisor_leaves_nothing_behind_and_nothing_is_lost(machine: Machine) -> None:
    said = machine.run("up", "--servers-only")
    assert "Ready after" in said
    assert "127.0.0.1" in said
    asyncio.run(_write(machine.settings))
    assert len(machine.processes()) >= 5

    os.kill(machine.state()["supervisor_pid"], signal.SIGKILL)
    _until(lambda: machine.processes() == [], 10, "processes outlived their supervisor")
    assert "was killed" in machine.run("status", status=1)

    machine.run("up", "--servers-only")
    assert asyncio.run(_read(machine.settings)) == (1000, 200)
    assert "All is well" in machine.run("doctor")

    (machine.data / "secrets.env").unlink()  # lost secrets: new passwords, and the same data
    machine.run("down")
    machine.run("up", "--servers-only")
    assert asyncio.run(_read(machine.settings)) == (1000, 200)

    machine.run("down")
    assert machine.processes() == []
    assert "Not running" in machine.run("status", status=1)
    machine.run("reset", "--yes")
    assert not machine.data.exists()


def test_a_server_that_dies_is_started_again_and_status_says_so(machine: Machine) -> None:
    machine.run("up", "--servers-only")
    before = machine.state()["processes"]["valkey"]
    os.kill(before["pid"], signal.SIGKILL)

    def back() -> bool:
        now = machine.state()["processes"]["valkey"]
        return bool(now["pid"] != before["pid"] and now["condition"] == "ready")

    _until(back, 20, "valkey was not started again")
    assert "killed by SIGKILL" in machine.run("status")
    assert machine.state()["processes"]["valkey"]["restarts"] == 1
    assert "valkey was killed by SIGKILL" in (machine.data / "logs" / "supervisor.log").read_text()


def test_two_starts_at_once_make_one_stack(machine: Machine) -> None:
    both = [machine.start("up", "--servers-only") for _ in range(2)]
    said = [each.communicate(timeout=200)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert sum("It runs already" in text for text in said) == 1
    supervisors = [each for each in machine.processes() if "cli.stack.supervisor" in each.cmdline()]
    assert len(supervisors) == 1


def _as_a_terminal_starts_it() -> None:
    """A job in the background, or one under nohup, hands down signals that are ignored; a terminal does not."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL], ids=lambda number: number.name
)
def test_the_end_of_a_terminal_is_the_end_of_its_stack(machine: Machine, number: signal.Signals) -> None:
    """Ctrl-C, a closed terminal, a killed command: `up --foreground` and all that it started end."""
    running = machine.start("up", "--foreground", "--servers-only")
    state_file = machine.data / "run" / "state.json"
    _until(lambda: state_file.exists() and machine.state()["phase"] == "ready", 120, "it did not start")
    os.kill(running.pid, number)
    running.communicate(timeout=60)
    _until(lambda: machine.processes() == [], 30, "processes outlived their terminal")
    assert machine.processes() == []


def test_an_address_in_the_environment_replaces_the_embedded_server(
    machine: Machine, stack: Settings
) -> None:
    data = machine.data
    env = machine.env | {
        "NEXAFI_KAFKA_BOOTSTRAP": stack.kafka,
        "NEXAFI_ELASTICSEARCH_URL": stack.elasticsearch,
    }
    command = [sys.executable, "-m", "cli"]
    done = subprocess.run(
        [*command, "up", "--servers-only"],
        cwd=CHECKOUT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = machine.state()["processes"]
    assert {name: each["condition"] for name, each in found.items()} == {
        "postgres": "ready",
        "kafka": "external",
        "valkey": "ready",
        "elasticsearch": "external",
    }
    assert not (data / "kafka").exists()


def test_a_taken_port_is_named(machine: Machine) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", machine.settings.port("kafka")))
        taken.listen()
        said = machine.run("up", "--servers-only", status=1)
    assert f"Port {machine.settings.port('kafka')}, wanted by kafka, is taken by" in said
    assert machine.processes() == []
