"""A gateway that is told to stop under load: not ready first, then every request that it took is answered."""

from __future__ import annotations

import asyncio
import signal

import aiohttp
import pytest

from tests.kit.api import Caller, callers
from tests.kit.book import Book, book_of
from tests.kit.gateway import OwnGateway, own_gateway
from tests.kit.platform import Platform
from tests.kit.sse import listening

pytestmark = [pytest.mark.stack, pytest.mark.kill, pytest.mark.timeout(240)]


async def _client(book: Book, answered: list[int], broken: list[str]) -> None:
    """One caller after another request, until the gateway takes none any more."""
    async with aiohttp.ClientSession() as http:
        here = Book(
            Caller(http, book.caller.base, book.caller.token), book.ledger_id, book.cash, book.alice, book.bob
        )
        while True:
            try:
                answered.append((await here.post()).status)
            except aiohttp.ClientConnectorError:
                return
            except aiohttp.ServerDisconnectedError:
                continue  # a connection that lay idle was closed as we began to use it: nothing was lost
            except (aiohttp.ClientError, TimeoutError) as error:
                broken.append(f"{type(error).__name__}: {error}")


async def _readiness(gateway: OwnGateway, seen: list[tuple[int, bool]]) -> None:
    """What a load balancer sees, beside whether a new connection is taken."""
    port = int(gateway.base.rpartition(":")[2])
    while True:
        status = await asyncio.to_thread(gateway.readiness)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            seen.append((status, True))
        except OSError:
            seen.append((status, False))
        await asyncio.sleep(0.05)


async def test_a_drained_gateway_answers_all_that_it_took(platform: Platform) -> None:
    answered: list[int] = []
    broken: list[str] = []
    seen: list[tuple[int, bool]] = []
    async with callers(platform, "drained") as (caller,):
        book = await book_of(caller)
        with own_gateway(platform, NEXAFI_DRAIN_DELAY_S="2") as gateway:
            here = Caller(caller.http, gateway.base, caller.token)
            mine = Book(here, book.ledger_id, book.cash, book.alice, book.bob)
            async with listening(here) as stream:
                clients = [asyncio.create_task(_client(mine, answered, broken)) for _ in range(16)]
                watching = asyncio.create_task(_readiness(gateway, seen))
                frames = [await stream.message() for _ in range(50)]
                while len(answered) < 50:  # noqa: ASYNC110 - an event may be heard before its answer
                    await asyncio.sleep(0.01)
                before = len(answered)
                gateway.signal(signal.SIGTERM)
                rest = await stream.until_end()
                await asyncio.gather(*clients)
                status = await asyncio.to_thread(gateway.wait)
                watching.cancel()
            log = gateway.log_file.read_text()
        async with listening(caller, last_id=rest[-2].id if len(rest) > 1 else frames[-1].id) as stream:
            count = len(frames) + len(rest) - 1
            while count < len(answered):
                await stream.message()
                count += 1
    assert status == 0, log
    assert broken == []
    assert set(answered) <= {201, 202}
    assert len(answered) > before >= 50  # it went on working while it was not ready
    assert rest[-1].json()["reason"] == "draining"
    not_ready = seen.index(next(s for s in seen if s[0] == 503))
    assert seen[not_ready][1], "it refused connections before it said that it is not ready"
    assert all(s != 200 for s, _ in seen[not_ready:])
    assert "did not drain" not in log
