"""A platform for end-to-end tests that is started as a newcomer starts it, with a telemetry collector beside it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cli.stack import ports
from cli.stack.paths import CHECKOUT
from nexafi.settings import Settings

_OWN = re.compile(r"^(NEXAFI|OTEL)_")


@dataclass(frozen=True)
class Span:
    """A finished span as the collector got it."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: frozenset[str]
    attributes: str


@dataclass
class Collector:
    """Takes OTLP over HTTP, like any collector; keeps spans, counts what else comes."""

    spans: list[Span] = field(default_factory=list)
    metric_posts: int = 0
    raw: list[bytes] = field(default_factory=list)

    def take(self, path: str, body: bytes) -> None:
        """One request."""
        self.raw.append(body)
        if path.endswith("/v1/metrics"):
            self.metric_posts += 1
            return
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Span(
                            named["service.name"],
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            frozenset(link.trace_id.hex() for link in span.links),
                            str(span.attributes),
                        )
                    )

    def of_trace(self, trace: str) -> list[Span]:
        """Its spans so far."""
        return [s for s in list(self.spans) if s.trace == trace]


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """A collector and its address."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.take(self.path, body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Newcomer:
    """Someone at a shell in the checkout. ``said`` is what `up` printed."""

    data: Path
    settings: Settings
    collector: Collector
    env: dict[str, str]
    said: str = ""

    def nexafi(self, *arguments: str, status: int = 0, timeout_s: float = 240.0) -> str:
        """Run the command and return what it printed."""
        return self.shell(
            f"{sys.executable} -m cli " + " ".join(arguments), status=status, timeout_s=timeout_s
        )

    def shell(self, line: str, *, status: int = 0, timeout_s: float = 120.0) -> str:
        """Run a line as pasted into a shell."""
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=CHECKOUT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == status, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def gateway(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.settings.port('gateway')}"

    def logs(self) -> str:
        """What all processes have written."""
        return "".join(p.read_text(errors="replace") for p in sorted((self.data / "logs").glob("*.log")))


@contextmanager
def newcomer() -> Iterator[Newcomer]:
    """`up` in an empty folder on free ports; `down` at the end, whatever happened."""
    data = Path(tempfile.mkdtemp(prefix="nexafi-first-"))
    with collecting() as (collector, address):
        base = ports.free_port_base()
        env = {name: value for name, value in os.environ.items() if not _OWN.match(name)} | {
            "NEXAFI_DATA_DIR": str(data),
            "NEXAFI_PORT_BASE": str(base),
            "OTEL_EXPORTER_OTLP_ENDPOINT": address,
            "OTEL_BSP_SCHEDULE_DELAY": "300",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "COLUMNS": "200",
        }
        made = Newcomer(data, Settings(port_base=base, data_dir=data), collector, env)
        try:
            made.said = made.nexafi("up", timeout_s=400)
            made.settings = Settings(port_base=base, data_dir=data)
            yield made
        finally:
            subprocess.run(
                [sys.executable, "-m", "cli", "down"], cwd=CHECKOUT, env=env, capture_output=True, check=False
            )
            shutil.rmtree(data, ignore_errors=True)


def eventually(seconds: float, what: str) -> Iterator[None]:
    """Loop bodies until the caller breaks off; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.2)
    raise AssertionError(what)
