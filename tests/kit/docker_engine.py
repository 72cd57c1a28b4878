"""A stand-in for a Docker engine: its HTTP API on a Unix socket, as far as test containers use it.

It makes no container. It remembers what it was asked to make, so that a test can compare that with what was meant,
and answers as the engine's API (v1.44, "Docker Engine API") does.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_API = "1.44"
_FIRST_PORT = 40_000


@dataclass
class Engine:
    """What it was asked for. ``pulled`` are images; ``made`` are bodies of ``POST /containers/create`` by id."""

    address: str
    pulled: list[str] = field(default_factory=list)
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def container(self, image: str) -> dict[str, Any]:
        """The one container that was made of ``image``."""
        (found,) = (body for body in self.made.values() if body["Image"] == image)
        return found

    def running(self) -> list[str]:
        """Ids of containers that were started and not removed."""
        return [each for each in self.started if each not in self.removed]

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """Status and document of one request; ``None`` is an empty answer."""
        match [method, *path.strip("/").split("/")]:
            case ["GET" | "HEAD", "_ping"]:
                return 200, "OK"
            case ["GET", "version"]:
                return 200, {"ApiVersion": _API, "MinAPIVersion": "1.24", "Version": "27.0.0", "Os": "linux"}
            case ["GET", "info"]:
                return 200, {"ID": "fake", "OperatingSystem": "test", "ServerVersion": "27.0.0"}
            case ["POST", "images", "create"]:
                self.pulled.append(f"{query['fromImage'][0]}:{query['tag'][0]}")
                return 200, {"status": "Pull complete"}
            case ["GET", "images", *name] if name[-1] == "json":
                image = unquote("/".join(name[:-1]))
                if image in self.pulled:
                    return 200, {"Id": f"sha256:{image}", "RepoTags": [image]}
                return 404, {"message": f"No such image: {image}"}
            case ["POST", "containers", "create"]:
                identifier = f"{len(self.made) + 1:064x}"
                self.made[identifier] = body
                return 201, {"Id": identifier, "Warnings": []}
            case ["POST", "containers", identifier, "start"] if identifier in self.made:
                self.started.append(identifier)
                return 204, None
            case ["GET", "containers", identifier, "json"] if identifier in self.made:
                return 200, self._inspect(identifier)
            case ["DELETE", "containers", identifier] if identifier in self.made:
                self.removed.append(identifier)
                return 204, None
        return 404, {"message": f"the stand-in does not know {method} {path}"}

    def _inspect(self, identifier: str) -> dict[str, Any]:
        body, order = self.made[identifier], list(self.made).index(identifier)
        bindings: dict[str, Any] = {}
        for port, wanted in (body["HostConfig"].get("PortBindings") or {}).items():
            host_port = (wanted or [{}])[0].get("HostPort") or str(_FIRST_PORT + order)
            bindings[port] = [{"HostIp": "0.0.0.0", "HostPort": host_port}]
        running = identifier in self.running()
        return {
            "Id": identifier,
            "Name": f"/c{order}",
            "Image": f"sha256:{body['Image']}",
            "Config": {"Image": body["Image"], "Labels": body.get("Labels") or {}, "Env": body.get("Env")},
            "State": {"Status": "running" if running else "created", "Running": running, "ExitCode": 0},
            "HostConfig": {"NetworkMode": "default"},
            "NetworkSettings": {"Ports": bindings, "Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
        }


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def _handler(engine: Engine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            path = parts.path.removeprefix(f"/v{_API}")
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, document = engine.answer(self.command, path, parse_qs(parts.query), body)
            text = b"" if document is None else _encode(document)
            self.send_response(status)
            self.send_header("Api-Version", _API)
            self.send_header(
                "Content-Type", "text/plain" if isinstance(document, str) else "application/json"
            )
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        do_GET = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815 - the library's names

        def log_message(self, *_: Any) -> None:
            """Nothing: what was asked is in the engine."""

        def address_string(self) -> str:
            return "unix"

    return Handler


def _encode(document: Any) -> bytes:
    return document.encode() if isinstance(document, str) else json.dumps(document).encode()


@contextmanager
def serve(folder: Path) -> Iterator[Engine]:
    """An engine that listens on a socket in ``folder``."""
    socket = folder / "docker.sock"
    engine = Engine(f"unix://{socket}")
    with _Server(str(socket), _handler(engine)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield engine
        finally:
            server.shutdown()
            thread.join()
