"""What every server of the local stack offers."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import ClassVar, Protocol

from cli.stack.paths import Layout
from cli.stack.process import Command
from cli.stack.programs import Programs
from nexafi.settings import Settings

PROBE_TIMEOUT_S = 2.0


class Server(Protocol):
    """An embedded server. ``prepare`` may run again on a prepared folder and then changes settings only."""

    name: ClassVar[str]
    #: Settings that, when set, name a server of the user's own and replace this one.
    address_setting: ClassVar[str]
    #: Names of its TCP ports in ``nexafi.settings.PORT_OFFSETS``; the first is the one clients use.
    ports: ClassVar[tuple[str, ...]]

    def __init__(self, layout: Layout, programs: Programs | None, settings: Settings) -> None: ...

    @property
    def address(self) -> str:
        """The address that roles use."""

    def prepare(self, log: Path) -> None:
        """Make or update the data folder and the configuration."""

    def command(self) -> Command:
        """What to run."""

    def probe(self) -> str | None:
        """``None`` when the server answers, else what is wrong in words."""


class Base:
    """State that all servers share."""

    def __init__(self, layout: Layout, programs: Programs | None, settings: Settings) -> None:
        self.layout = layout
        self.settings = settings
        self._programs = programs

    @property
    def programs(self) -> Programs:
        """Where programs are; an external server has none."""
        assert self._programs is not None, "an external server is never started"
        return self._programs


def exchange(host: str, port: int, request: bytes, expected: int) -> bytes:
    """Send ``request`` and read at least ``expected`` bytes; raises ``OSError`` when the peer does not answer."""
    with socket.create_connection((host, port), timeout=PROBE_TIMEOUT_S) as link:
        link.settimeout(PROBE_TIMEOUT_S)
        link.sendall(request)
        answer = b""
        while len(answer) < expected:
            part = link.recv(65536)
            if not part:
                raise ConnectionError("the connection was closed")
            answer += part
        return answer
