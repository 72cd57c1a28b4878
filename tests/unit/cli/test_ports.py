"""Ports: every checkout has its own range, and a taken port is named with who has it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from cli.roles import GROUPS
from cli.stack import ports
from cli.stack.servers import SERVERS
from nexafi.settings import PORT_OFFSETS, Settings


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def test_every_port_moves_with_the_base() -> None:
    low, high = (
        ports.needed(Settings(port_base=base), list(SERVERS), list(GROUPS)) for base in (5000, 15000)
    )
    assert {port + 10000 for port in low} == set(high)
    assert list(low.values()) == list(high.values())


def test_no_port_is_wanted_twice() -> None:
    wanted = ports.needed(Settings(port_base=5000), list(SERVERS), list(GROUPS))
    names = [port for server in SERVERS.values() for port in server.ports]
    assert len(set(wanted)) == len(wanted)
    assert len(wanted) >= len(names) + len(GROUPS)


def test_documented_ports_are_the_default() -> None:
    settings = Settings(port_base=5000)
    assert (settings.port("gateway"), settings.port("ledger"), settings.port("integrations")) == (
        5000,
        5002,
        5012,
    )
    assert (settings.port("postgres"), settings.port("kafka"), settings.port("elasticsearch")) == (
        5432,
        9092,
        9200,
    )
    assert len(set(PORT_OFFSETS.values())) == len(PORT_OFFSETS)


def test_a_taken_port_is_found_with_its_owner(taken_port: int) -> None:
    settings = Settings(port_base=max(1024, taken_port - PORT_OFFSETS["postgres"]))
    assert settings.port("postgres") == taken_port, "ephemeral ports are above every base"
    assert ports.taken(settings, ["postgres"], []) == {taken_port: "postgres"}
    assert str(os.getpid()) in (ports.owner(taken_port) or "")
    text = ports.explain({taken_port: "postgres"})
    assert f"Port {taken_port}, wanted by postgres" in text
    assert "NEXAFI_PORT_BASE=" in text


def test_a_free_base_is_below_the_ports_of_outgoing_connections() -> None:
    base = ports.free_port_base()
    wanted = ports.needed(Settings(port_base=base), list(SERVERS), list(GROUPS))
    assert all(1024 < port < 32768 for port in wanted)
