"""`./dev` for somebody who is not root: a clone in their own folder, an empty environment, and nothing left behind."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cli.stack import ports
from cli.stack.paths import CHECKOUT, unreachable
from nexafi.settings import Settings
from tests.kit import person as kit

pytestmark = [
    pytest.mark.stack,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
    pytest.mark.skipif(
        kit.python() is None, reason="no Python of this version is where an ordinary user can run it"
    ),
]


@pytest.fixture
def person() -> Iterator[kit.Person]:
    made = kit.Person.arrive()
    yield made
    for checkout in made.checkouts:
        made.run(["./dev", "down"], checkout)
    assert made.leave() == []


@pytest.mark.skipif(
    unreachable(CHECKOUT / ".venv") is not None, reason="root's environment is private: nothing can be lent"
)
def test_two_checkouts_of_an_ordinary_user_run_side_by_side(person: kit.Person) -> None:
    first, second = person.clone("first"), person.clone("second")
    base, other = ports.free_port_base(), ports.free_port_base()
    while abs(base - other) < 50:
        other = ports.free_port_base()

    # given a whole stack of the first
    said = person.dev(first, base, "up")
    assert "Ready after" in said
    assert f"http://127.0.0.1:{base}" in said
    assert {each.uids().real for each in person.processes()} == {person.uid}
    assert {each.uids().effective for each in person.processes()} == {person.uid}
    with urllib.request.urlopen(f"http://127.0.0.1:{base}/readyz", timeout=10) as answer:
        assert answer.status == 200
    assert "restarts" in person.dev(first, base, "status")
    assert_private(first / ".data", base)

    # when the second wants the same ports, it is told which to take
    assert "NEXAFI_PORT_BASE=" in person.dev(second, base, "up", "--servers-only", status=1)
    # and beside the first it starts, and ends, without touching it
    person.dev(second, other, "up", "--servers-only")
    before = pids(first)
    person.dev(second, other, "down")
    assert pids(first) == before
    person.dev(first, base, "status")

    # then after `down` nothing runs, and after `reset` nothing is there
    person.dev(first, base, "down")
    assert person.processes() == []
    for checkout in (first, second):
        person.dev(checkout, base, "reset", "--yes")
        assert not (checkout / ".data").exists()


def pids(checkout: Path) -> dict[str, int]:
    state = json.loads((checkout / ".data" / "run" / "state.json").read_text())
    return {name: each["pid"] for name, each in state["processes"].items()}


def assert_private(folder: Path, base: int) -> None:
    """What the store holds is for those who can read its secrets: no one gets in without a password."""
    for name in ("secrets.env", "credentials.json", "demo.headers", "run/state.json"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name
    for name in ("postgres", "kafka", "valkey", "elasticsearch", "logs"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name
    known = Settings(port_base=base, data_dir=folder)
    with psycopg.connect(known.database) as connection:
        assert connection.execute("SELECT count(*) FROM ledger.events").fetchone() is not None
    for login in ("nexafi", "postgres", "nexafi:wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"postgresql://{login}@127.0.0.1:{known.port('postgres')}/nexafi")
