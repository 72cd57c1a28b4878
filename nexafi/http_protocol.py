"""The wire side of :mod:`nexafi.http`: uvicorn's httptools protocol with bounds that it lacks.

httptools has no limit on the size of a request's head and uvicorn none on how slowly a request may
arrive, so both are kept here: bytes are counted while a head is open, and :func:`sweep` looks once a
second at every connection. Nothing is added to the path of a request but two clock readings.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from nexafi import problems
from schemas.common.problems import MEDIA_TYPE


@dataclass(frozen=True)
class Limits:
    """Bounds of one server. Sizes in bytes, times in seconds."""

    max_body_bytes: int = 4 * 1024 * 1024
    max_head_bytes: int = 32 * 1024
    max_connections: int = 4096
    max_requests: int = 2048
    head_timeout_s: float = 10.0
    body_timeout_s: float = 20.0
    #: How long a client may leave an answer unread.
    write_timeout_s: float = 60.0
    keep_alive_s: int = 30
    drain_s: int = 10


class BoundedProtocol(HttpToolsProtocol):
    """One connection. ``limits`` is set by the subclass that :func:`protocol_with` makes."""

    limits: Limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse connections above the bound at once."""
        super().connection_made(transport)
        self.since: float = self.loop.time()
        self.in_head = True
        self.in_body = False
        self.head_bytes = 0
        self.blocked_since: float | None = None
        if len(self.connections) > self.limits.max_connections:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to an open head, then parse."""
        if self.in_head:
            self.head_bytes += len(data)
        super().data_received(data)
        if self.in_head and self.head_bytes > self.limits.max_head_bytes:
            self.refuse("headers-too-large")

    def on_message_begin(self) -> None:
        """A request begins."""
        self.since = self.loop.time()
        self.in_head = True
        self.head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole; a head inside the bound may still come in one large packet."""
        self.in_head = False
        self.in_body = True
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                self.refuse("malformed-request", "The only transfer coding that is known here is chunked.")
                return
        if size > self.limits.max_head_bytes:
            self.refuse("uri-too-long" if len(self.url) > self.limits.max_head_bytes else "headers-too-large")
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Bytes of a refused request are dropped."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; the connection may idle until the keep-alive ends."""
        self.in_body = False
        self.in_head = False
        if not self.transport.is_closing():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP is answered with a problem as well."""
        self.refuse("malformed-request", msg)

    def refuse(self, slug: str, detail: str = "") -> None:
        """Answer outside of ASGI (no request exists yet, or its body never came) and close."""
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle
        answered = cycle is not None and cycle.response_started
        if not answered or (cycle.response_complete and self.in_head):
            body = problems.body(slug, detail)
            status = problems.EDGE[slug][0]
            head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
            self.transport.write(STATUS_LINE[status] + head + body)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def check(self, now: float) -> None:
        """End this connection when its client is too slow; called about once a second."""
        limits = self.limits
        if self.in_head and now - self.since > limits.head_timeout_s:
            self.refuse("request-timeout", "The head of the request did not arrive in time.")
        elif self.in_body and now - self.since > limits.body_timeout_s:
            self.refuse("request-timeout", "The body of the request did not arrive in time.")
        elif self.flow.write_paused:
            if self.blocked_since is None:
                self.blocked_since = now
            elif now - self.blocked_since > limits.write_timeout_s:
                self.transport.abort()
        else:
            self.blocked_since = None


def protocol_with(limits: Limits) -> type[BoundedProtocol]:
    """The protocol class for one server's limits (uvicorn takes a class)."""
    return type("BoundedProtocol", (BoundedProtocol,), {"limits": limits})


async def sweep(connections: set[Any], interval_s: float = 1.0) -> None:
    """Check all connections for slow clients, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(interval_s)
        now = loop.time()
        for connection in list(connections):
            connection.check(now)
