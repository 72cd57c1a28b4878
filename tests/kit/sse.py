"""Listening to server-sent events in tests: frames as they come, with the bytes that a browser would parse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from tests.kit.api import Caller


@dataclass
class Frame:
    """One block of a stream. ``id`` is ``""`` when the block has none."""

    id: str = ""
    name: str = "message"
    data: str = ""
    comments: list[str] = field(default_factory=list)

    def json(self) -> Any:
        """The data as JSON."""
        return orjson.loads(self.data)

    @property
    def source(self) -> str:
        """``service/shard`` of a CloudEvent."""
        event = self.json()
        return f"{event['source'].removeprefix('nexafi/')}/{event['shard']}"


class Stream:
    """An open stream. ``last_id`` is what a browser would send as ``Last-Event-ID`` to go on."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last_id = ""

    async def frame(self, timeout_s: float = 60.0) -> Frame:
        """The next block; :class:`EOFError` when the server has ended the answer."""
        frame = Frame()
        async with asyncio.timeout(timeout_s):
            while True:
                line = (await self.response.content.readline()).decode()
                if not line:
                    raise EOFError
                text = line.rstrip("\n")
                if not text:
                    break
                key, _, value = text.partition(":")
                value = value.removeprefix(" ")
                if not key:
                    frame.comments.append(value)
                elif key == "id":
                    frame.id = self.last_id = value
                elif key == "event":
                    frame.name = value
                elif key == "data":
                    frame.data = value
        return frame

    async def message(self, timeout_s: float = 60.0) -> Frame:
        """The next block with data."""
        while True:
            frame = await self.frame(timeout_s)
            if frame.data:
                return frame

    async def until_end(self, timeout_s: float = 60.0) -> list[Frame]:
        """All blocks with data up to and with the one named ``end``."""
        found = [await self.message(timeout_s)]
        while found[-1].name != "end":
            found.append(await self.message(timeout_s))
        return found


@asynccontextmanager
async def listening(
    caller: Caller, path: str = "/v1/events", last_id: str = "", **headers: str
) -> AsyncIterator[Stream]:
    """An open stream whose first block has come, so that nothing that happens from now on is before it."""
    sent: Mapping[str, str] = {"Authorization": f"Bearer {caller.token}", **headers}
    if last_id:
        sent = {**sent, "Last-Event-ID": last_id}
    timeout = aiohttp.ClientTimeout(total=None, sock_read=90)
    async with (
        aiohttp.ClientSession(timeout=timeout, read_bufsize=2**20) as http,
        http.get(caller.base + path, headers=sent) as response,
    ):
        assert response.status == 200, await response.text()
        assert response.headers["content-type"] == "text/event-stream"
        stream = Stream(response)
        first = await stream.frame()
        assert first.data == ""
        yield stream
