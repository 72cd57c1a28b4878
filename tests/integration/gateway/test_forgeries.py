"""S4: no forged token passes. Every forgery answers 401, nothing is fetched, nothing breaks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import psutil

from tests.integration.gateway.forging import Forge, forgeries
from tests.integration.gateway.world import World
from tests.kit.api import Caller
from tests.kit.soak import Printed


class Trap:
    """A server on loopback that a verifier would call if it followed a URL of a token; it counts who comes."""

    def __init__(self) -> None:
        self.visits: list[bytes] = []
        self.url = ""

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits.append(await reader.readline())
        writer.close()


@asynccontextmanager
async def trap() -> AsyncIterator[Trap]:
    made = Trap()
    server = await asyncio.start_server(made.met, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


async def _forge(world: World, http: aiohttp.ClientSession, url: str) -> Forge:
    owner = world.ours.caller(http, world.platform.url)
    client, secret = await owner.client(["ledger:read"])
    real = await owner.with_token(client, secret)
    stranger = world.theirs.caller(http, world.platform.url)
    foreign, _ = await stranger.client(["ledger:read"])
    ended, ended_secret = await owner.client(["ledger:read"])
    gone = await owner.with_token(ended, ended_secret)
    assert (await owner.call("DELETE", f"/v1/clients/{ended}", {})).status == 200
    async with asyncio.timeout(60):  # the end of a client is heard of within seconds, not at once
        while (await gone.call("GET", "/v1/ledgers", tries=1)).status != 401:  # noqa: ASYNC110 -- asked from outside
            await asyncio.sleep(0.1)
    assert (await real.get("/v1/ledgers")).status == 200, "the real token must work, or nothing is shown"
    return Forge.of(world.platform.settings, real.token, url, foreign=foreign, ended=ended)


async def test_no_forged_token_passes(world: World, http: aiohttp.ClientSession, printed: Printed) -> None:
    async with trap() as trapped:
        forge = await _forge(world, http, trapped.url)
        made = forgeries(forge)
        assert len(made) >= 150
        targets = _remotes(world)
        passed = []
        for name, token in made:
            answer = await Caller(http, world.platform.url, token).call("GET", "/v1/ledgers", tries=1)
            if answer.status != 401 or not answer.problem:
                passed.append((name, answer.status, answer.body[:200]))
            assert forge.stem not in answer.body.decode("latin-1"), "a token is never repeated"
        assert passed == []
        assert trapped.visits == []
        assert _remotes(world) <= targets, "the gateway called someone"
    real = Caller(http, world.platform.url, forge.real)
    assert (await real.get("/v1/ledgers")).status == 200
    printed("S4", forgeries=len(made), passed=0, outbound_calls=0, server_errors=0)


async def test_a_forged_token_is_refused_again_when_it_comes_again(
    world: World, http: aiohttp.ClientSession
) -> None:
    """What is remembered about tokens is remembered about good ones only, and under all of their text."""
    forge = await _forge(world, http, "http://127.0.0.1:9")
    real = Caller(http, world.platform.url, forge.real)
    for name, token in forgeries(forge)[:40]:
        for _ in range(2):
            assert (await real.get("/v1/ledgers")).status == 200
            answer = await Caller(http, world.platform.url, token).call("GET", "/v1/ledgers", tries=1)
            assert answer.status == 401, name


async def test_a_credential_proves_something_in_its_own_place_only(
    world: World, http: aiohttp.ClientSession
) -> None:
    forge = await _forge(world, http, "http://127.0.0.1:9")
    key, token = world.ours.token, forge.real
    nobody = Caller(http, world.platform.url, "")
    good = ({"Authorization": f"Bearer {token}"}, {"Authorization": f"bearer {key}"})
    for headers in good:
        assert (await nobody.call("GET", "/v1/ledgers", headers=headers)).status == 200
    async with http.get(f"{world.platform.url}/v1/ledgers", headers={"X-Api-Key": key}) as answer:
        assert answer.status == 200
    url, both = f"{world.platform.url}/v1/ledgers", {"Authorization": f"Bearer {token}", "X-Api-Key": key}
    for headers in (
        both,
        {"X-Api-Key": token},
        {"X-Api-Key": f"Bearer {token}"},
        {"X-Api-Key": f"Bearer {key}"},
        {"Cookie": f"access_token={token}"},
        {"Authorization": f"DPoP {token}"},
        {"Authorization": token},
        {"Authorization": f"Bearer {token}, Bearer {token}"},
        {"Authorization": f"Bearer {key[:-1]}"},
        {"Authorization": f"Bearer {key}A"},
        {"Authorization": f"Bearer {key.swapcase()}"},
        {"Authorization": f"Bearer nfk_{'A' * 43}"},
        {"Authorization": "Bearer nfk_"},
        {"Proxy-Authorization": f"Bearer {token}"},
    ):
        for _ in range(2):
            async with http.get(url, headers=headers) as answer:
                assert answer.status == 401, headers
    for query in (f"access_token={token}", f"api_key={key}"):
        async with http.get(f"{url}?{query}") as answer:
            assert answer.status == 401, "a credential in a URL ends up in logs"
    async with http.get(
        url, headers=[("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")]
    ) as answer:
        assert answer.status in (400, 401)


def _remotes(world: World) -> set[int]:
    """Ports to which the gateway holds connections."""
    return {
        connection.raddr.port
        for connection in world.platform.process("gateway").net_connections("tcp")
        if connection.status == psutil.CONN_ESTABLISHED
        and connection.raddr
        and connection.laddr.port != world.platform.port
        and connection.family == socket.AF_INET
    }
