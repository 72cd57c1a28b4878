"""A lean HTTP/1.1 client for load: one connection each, one request at a time, no parsing beyond what is needed.

A general client costs several times what the gateway does on a request; on two cores that would measure the client.
"""

from __future__ import annotations

import asyncio
from typing import cast


class Connection(asyncio.Protocol):
    """Keep-alive connection; :meth:`request` sends bytes and returns (status, body)."""

    def __init__(self) -> None:
        self._buffer = b""
        self._need = -1
        self._status = 0
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Connect."""
        _, protocol = await asyncio.get_running_loop().create_connection(cls, host, port)
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionError("closed"))

    def data_received(self, data: bytes) -> None:
        """Complete the answer."""
        self._buffer += data
        if self._need < 0:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            self._status = int(head[9:12])
            at = head.lower().find(b"content-length:")
            self._need = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self._buffer = rest
        if len(self._buffer) >= self._need:
            body, self._buffer = self._buffer[: self._need], self._buffer[self._need :]
            self._need = -1
            waiter, self._waiter = self._waiter, None
            if waiter is not None and not waiter.done():
                waiter.set_result((self._status, body))

    def request(self, data: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send a prepared request; the future has the answer."""
        assert self._transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return self._waiter

    def close(self) -> None:
        """Disconnect."""
        if self._transport is not None:
            self._transport.close()


def post(path: str, token: str, key: str, body: bytes, *, prefer: str = "wait=10") -> bytes:
    """Bytes of a POST."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: {key}\r\n"
        f"Prefer: {prefer}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
