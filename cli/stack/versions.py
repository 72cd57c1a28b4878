"""Which version a running server is."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

from cli.stack import artifacts
from cli.stack.servers.base import PROBE_TIMEOUT_S, exchange
from nexafi.settings import Settings


def server_version(name: str, settings: Settings) -> str:
    """Name and version in words; raises when the server does not answer."""
    return {"postgres": _postgres, "kafka": _kafka, "valkey": _valkey, "elasticsearch": _elasticsearch}[name](
        settings
    )


def _postgres(settings: Settings) -> str:
    import psycopg

    with psycopg.connect(settings.database, connect_timeout=int(PROBE_TIMEOUT_S)) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return f"PostgreSQL {row[0] if row else '?'}"


def _kafka(settings: Settings) -> str:
    if settings.kafka_bootstrap is not None:
        return "Kafka (a broker does not tell its version)"
    (core,) = (a for a in artifacts.of_part("kafka") if ":kafka_2.13:" in a.coordinate)
    return f"Apache Kafka {core.coordinate.rpartition(':')[2]}"


def _valkey(settings: Settings) -> str:
    url = urlsplit(settings.redis)
    if url.scheme not in {"redis", "valkey"}:
        return "Redis protocol over TLS"
    login = f"AUTH {url.username or 'default'} {url.password}\r\n" if url.password else ""
    answer = exchange(
        url.hostname or "127.0.0.1", url.port or 6379, f"{login}INFO server\r\n".encode(), 256
    ).decode(errors="replace")
    pairs = dict(line.split(":", 1) for line in answer.splitlines() if ":" in line)
    if "valkey_version" in pairs:
        return f"Valkey {pairs['valkey_version']}"
    return f"Redis {pairs.get('redis_version', '?')}"


def _elasticsearch(settings: Settings) -> str:
    url = urlsplit(settings.elasticsearch)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    link = kind(url.hostname or "127.0.0.1", url.port, timeout=PROBE_TIMEOUT_S)
    try:
        link.request("GET", f"{url.path.rstrip('/')}/_nodes/_local?filter_path=nodes.*.version")
        nodes = json.loads(link.getresponse().read())["nodes"]
    finally:
        link.close()
    return f"Elasticsearch {next(iter(nodes.values()))['version']}"
