"""What the tests of the edge share: a context, a running server and a raw HTTP client."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from nexafi.http import serve
from nexafi.http_protocol import Limits
from nexafi.role import Health, RoleContext
from nexafi.settings import Settings


def context(**settings: Any) -> RoleContext:
    """A context with a health that is well."""
    health = Health()
    health.ok("test")
    return RoleContext(Settings(**settings), asyncio.Event(), health)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@asynccontextmanager
async def serving(app: Any, ctx: RoleContext, limits: Limits | None = None) -> AsyncIterator[int]:
    """The app on a real socket; yields the port."""
    port = free_port()
    ctx.health.expect(f"http:{port}")
    task = asyncio.create_task(serve(app, port, ctx, limits=limits))
    try:
        while ctx.health.problems and not task.done():  # noqa: ASYNC110 - health has no event
            await asyncio.sleep(0.005)
        if task.done():
            task.result()
        yield port
    finally:
        ctx.stop.set()
        await task


@dataclass
class Answer:
    """A parsed HTTP response."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


async def raw(
    port: int, request: bytes | Iterable[bytes], *, pause_s: float = 0, timeout_s: float = 10
) -> Answer:
    """Send bytes (in pieces, with pauses) and read one answer; status 0 when the server just closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        answer = asyncio.create_task(read_answer(reader))
        for piece in [request] if isinstance(request, bytes) else request:
            if answer.done():
                break
            try:
                writer.write(piece)
                await writer.drain()
            except ConnectionError:
                break
            if pause_s:
                await asyncio.sleep(pause_s)
        return await asyncio.wait_for(answer, timeout_s)
    finally:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """One response with a Content-Length."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return Answer(0)
    first, *lines = head.strip().split("\r\n")
    headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(first.split()[1]), headers, body)
