"""One module a server: how its folder is prepared, what is run, and how to tell that it answers."""

from __future__ import annotations

from cli.stack.paths import Layout
from cli.stack.programs import Programs
from cli.stack.servers.base import Server
from cli.stack.servers.elasticsearch import Elasticsearch
from cli.stack.servers.kafka import Kafka
from cli.stack.servers.postgres import Postgres
from cli.stack.servers.valkey import Valkey
from nexafi.settings import Settings

#: In the order of the table that people see.
SERVERS: dict[str, type[Server]] = {
    "postgres": Postgres,
    "kafka": Kafka,
    "valkey": Valkey,
    "elasticsearch": Elasticsearch,
}


def is_external(name: str, settings: Settings) -> bool:
    """Whether an address in the environment replaces the embedded server."""
    return getattr(settings, SERVERS[name].address_setting) is not None


def make(name: str, layout: Layout, programs: Programs | None, settings: Settings) -> Server:
    """The server ``name``; ``programs`` may be ``None`` for one that is external."""
    return SERVERS[name](layout, programs, settings)
