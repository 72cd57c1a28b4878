"""R24: clients that leave at any point leave nothing behind: no connection, no transaction, no flight, no half effect."""

from __future__ import annotations

import asyncio
import json
import random
import re
import urllib.request
from typing import Any

import aiohttp
import psycopg

from tests.integration.gateway import hostile
from tests.integration.gateway.test_keys import Book, spread
from tests.integration.gateway.world import World, transfer
from tests.kit.soak import Figure, Printed, figures

#: What the gateway counts as open, from its metrics.
_OPEN = ("flights", "replies_awaited", "bodies_held_bytes", "event_streams")


class Leaver:
    """Opens connections, sends what it wants of a request, waits for a moment and leaves."""

    def __init__(self, world: World, book: Book, accounts: tuple[str, str], seed: int) -> None:
        self._port = world.platform.port
        self._token = world.ours.token
        self._world = world
        self._book = book
        self._accounts = accounts
        self._chance = random.Random(seed)

    def _request(self, number: int) -> bytes:
        ids, path = self._world.ours.ids, self._book.path
        entry = {"entries": transfer(*self._accounts, 1)}
        body = json.dumps(entry).encode()
        bulk = json.dumps([entry] * 20).encode()
        wait, key = "Prefer: wait=10", f"Idempotency-Key: gone-{number}"
        kind = "Content-Type: application/json"
        post = hostile.head(
            "POST", f"{path}/transactions", self._token, kind, key, wait, f"Content-Length: {len(body)}"
        )
        many = hostile.head(
            "POST", f"{path}/transactions/bulk", self._token, kind, key, f"Content-Length: {len(bulk)}"
        )
        kinds = (
            post + body,
            post + body,
            many + bulk,
            hostile.head("GET", "/v1/ledgers", self._token),
            hostile.head("GET", "/v1/search?q=first", self._token),
            hostile.head("GET", f"/v1/payments/{ids['payment_id']}", self._token),
            hostile.head("GET", "/v1/events", self._token, "Accept: text/event-stream"),
            hostile.head("GET", f"/v1/operations/{ids['operation_id']}/events", self._token),
            hostile.head("GET", "/v1/ledgers", f"nfk_{number}"),
        )
        return self._chance.choice(kinds)

    async def leave(self, number: int) -> None:
        """One visit."""
        chance, request = self._chance, self._request(number)
        cut = len(request) if chance.random() < 0.7 else chance.randrange(len(request))
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(request[:cut])
        await asyncio.sleep(chance.choice((0, 0, chance.random() * 0.005, chance.random() * 0.05)))
        if chance.random() < 0.5:
            writer.transport.abort()  # a reset
        else:
            writer.close()


def _open(world: World) -> dict[str, float]:
    """What the gateway says is open."""
    with urllib.request.urlopen(f"{world.platform.url}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    found = {name: re.search(rf"^nexafi_gateway_{name}\S* ([\d.e+]+)$", text, re.MULTILINE) for name in _OPEN}
    missing = [name for name, match in found.items() if match is None]
    assert missing == [], f"the gateway does not say {missing}"
    return {name: float(match.group(1)) for name, match in found.items() if match}


def _client_connections(world: World) -> list[Any]:
    return [
        c
        for c in world.platform.process("gateway").net_connections("tcp")
        if c.laddr.port == world.platform.port and c.status != "LISTEN"
    ]


def _idle_in_transaction(world: World) -> list[Any]:
    with psycopg.connect(world.platform.settings.database) as connection:
        return connection.execute(
            "SELECT application_name, state, now() - state_change FROM pg_stat_activity "
            "WHERE state LIKE 'idle in transaction%' AND now() - state_change > interval '3 seconds'"
        ).fetchall()


@figures("R24")
async def test_clients_that_leave_at_any_point_leave_nothing_behind(
    world: World, http: aiohttp.ClientSession, figure: Figure, printed: Printed
) -> None:
    async with world.session() as own:
        caller = world.ours.caller(own, world.platform.url)
        book = await Book.make(caller)
    leaver = Leaver(world, book, book.accounts, seed=24)
    process = world.platform.process("gateway")
    threads = process.num_threads()
    visits = figure["disconnects"]
    await spread([lambda n=n: leaver.leave(n) for n in range(visits)], at_once=64)  # type: ignore[misc]

    for _ in range(600):  # flights without an answer are forgotten after 35 s
        left = (_client_connections(world), _open(world))
        if not left[0] and not any(left[1].values()):
            break
        await asyncio.sleep(0.2)
    assert left == ([], dict.fromkeys(_OPEN, 0.0))
    assert _idle_in_transaction(world) == []
    assert [c for c in process.net_connections("tcp") if c.status == "CLOSE_WAIT"] == []
    assert process.num_threads() <= threads + 4
    async with world.session() as own:
        book.caller = world.ours.caller(own, world.platform.url)
        moved, entries = await book.moved()
        assert moved == entries, "a command that was cut off had half an effect"
        again = await spread([lambda n=n: book.move(1, f"gone-{n}") for n in range(0, visits, 10)])  # type: ignore[misc]
        assert {answer.status for answer in again} == {201}
    assert process.is_running()
    printed("R24", disconnects=visits, leaked_connections=0, idle_in_transaction=0, flights_left=0)
