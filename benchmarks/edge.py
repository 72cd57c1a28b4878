"""Transfers over HTTP: one by one, by one client, hot against cold, in bulks, and at a constant rate.

Every answer is kept, and read when the clock has stopped: what was acknowledged must be in the store afterwards.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from benchmarks.http_client import Connection, post
from benchmarks.openloop import OpenLoop, open_loop
from benchmarks.stats import Latencies

_OPENERS: Final = 64
#: Connections of an open loop; a request that finds none free waits for one, and the wait counts.
OPEN_LOOP_CONNECTIONS: Final = 512


#: A request of an open loop that waited so long for a connection is not sent any more: the rate is beyond what can be.
GIVE_UP_S: Final = 10.0


class NotSentError(RuntimeError):
    """A request of an open loop found no connection in time and was never sent."""


class UnexpectedAnswerError(RuntimeError):
    """A request was not answered as a benchmark needs it: figures over refusals would mean nothing."""


@dataclass
class Acknowledged:
    """What the gateway said is done; ``posted`` are transaction ids."""

    bodies: list[bytes] = field(default_factory=list)
    bulks: list[bytes] = field(default_factory=list)

    def transactions(self) -> set[str]:
        """All ids, read from the answers."""
        found = {orjson.loads(body)["result"]["transaction_id"] for body in self.bodies}
        for body in self.bulks:
            found |= {r["result"]["transaction_id"] for r in orjson.loads(body)["results"]}
        return found

    @property
    def count(self) -> int:
        """Transfers that were acknowledged."""
        in_bulks: list[int] = [orjson.loads(body)["counts"]["accepted"] for body in self.bulks]
        return len(self.bodies) + sum(in_bulks)


class Edge:
    """A ledger with accounts on an installation, and an access token for it."""

    def __init__(self, data_dir: Path) -> None:
        self.credentials: dict[str, Any] = json.loads((data_dir / "credentials.json").read_text())
        self.url: str = self.credentials["url"]
        self.host, _, port = self.url.removeprefix("http://").partition(":")
        self.port = int(port)
        self.run = f"{time.time_ns():x}"
        self.token = ""
        self.ledger = ""
        self.accounts: list[str] = []
        self.acknowledged = Acknowledged()
        self._keys = 0

    # ------------------------------------------------------------------ before

    async def authorize(self) -> None:
        """A fresh access token: a signed JWT by OAuth 2 client credentials, as a caller would get it."""
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as http:
            answer = await http.post(
                "/oauth/token",
                data={
                    "grant_type": "client_credentials",
                    "client_id": self.credentials["client_id"],
                    "client_secret": self.credentials["client_secret"],
                },
            )
            if answer.status_code != 200:
                raise UnexpectedAnswerError(f"/oauth/token: {answer.status_code} {answer.text[:300]}")
            self.token = answer.json()["access_token"]

    async def prepare(self, accounts: int) -> None:
        """A fresh ledger with ``accounts`` accounts."""
        await self.authorize()
        connections = await self.connect(_OPENERS)
        answer = await self._created(connections[0], "/v1/ledgers", {"name": "bench"})
        self.ledger = answer["ledger_id"]
        path = f"/v1/ledgers/{self.ledger}/accounts"

        async def open_some(number: int) -> list[str]:
            made = []
            for n in range(number, accounts, len(connections)):
                result = await self._created(connections[number], path, {"code": f"a{n}", "currency": "EUR"})
                made.append(result["account_id"])
            return made

        parts = await asyncio.gather(*(open_some(n) for n in range(len(connections))))
        self.accounts = [account for part in parts for account in part]
        close(connections)

    async def connect(self, count: int) -> list[Connection]:
        """Open connections to the gateway."""
        return [await Connection.open(self.host, self.port) for _ in range(count)]

    async def _created(self, connection: Connection, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await connection.request(post(path, self.token, self.key(), orjson.dumps(body)))
        result: dict[str, Any] = orjson.loads(expected(answer, 201))["result"]
        return result

    def key(self) -> str:
        """An idempotency key that was never used."""
        self._keys += 1
        return f"{self.run}-{self._keys}"

    # ------------------------------------------------------------------ requests

    def transfer(self, number: int, *, hot: bool) -> bytes:
        """Body of a transfer of 1 cent: between two of all accounts, or from one account to all others in turn."""
        accounts = self.accounts
        first = 0 if hot else number % len(accounts)
        second = (first + 1 + number % (len(accounts) - 1)) % len(accounts)
        return (
            '{"entries":[{"account_id":"%s","side":"debit","amount":1,"currency":"EUR"},'
            '{"account_id":"%s","side":"credit","amount":1,"currency":"EUR"}]}'
            % (accounts[first], accounts[second])
        ).encode()

    def requests(self, *, hot: bool = False) -> Iterator[bytes]:
        """Requests for transfers without end, each with a key of its own."""
        path, number = f"/v1/ledgers/{self.ledger}/transactions", 0
        while True:
            yield post(path, self.token, self.key(), self.transfer(number, hot=hot))
            number += 1

    # ------------------------------------------------------------------ loads

    async def singles(self, clients: int, seconds: float, *, hot: bool = False) -> tuple[float, list[float]]:
        """Closed loop: each client sends its next transfer when it has its answer. Transfers a second, latencies in s."""
        connections = await self.connect(clients)
        requests, bodies = self.requests(hot=hot), self.acknowledged.bodies
        latencies: list[float] = []
        begun = time.perf_counter()
        ends = begun + seconds

        async def client(connection: Connection) -> None:
            while (sent := time.perf_counter()) < ends:
                answer = await connection.request(next(requests))
                latencies.append(time.perf_counter() - sent)
                bodies.append(expected(answer, 201))

        await asyncio.gather(*(client(c) for c in connections))
        took = time.perf_counter() - begun
        close(connections)
        return len(latencies) / took, latencies

    async def hot_and_cold(
        self, clients: int, seconds: float, slices: int
    ) -> tuple[list[float], list[float], Latencies]:
        """Rates of ``slices`` slices on one hot account and of as many on all accounts, in turn; latencies of the cold ones."""
        hot: list[float] = []
        cold: list[float] = []
        seen: list[float] = []
        for _ in range(slices):
            rate, latencies = await self.singles(clients, seconds)
            cold.append(rate)
            seen += latencies
            hot.append((await self.singles(clients, seconds, hot=True))[0])
        return hot, cold, Latencies.of(seen)

    async def bulks(self, count: int, size: int, clients: int) -> float:
        """Transfers a second in ``count`` bulks of ``size``, each answered when all its events are committed."""
        path = f"/v1/ledgers/{self.ledger}/transactions/bulk"
        requests = [
            post(
                path,
                self.token,
                self.key(),
                b"[" + b",".join(self.transfer(b * size + n, hot=False) for n in range(size)) + b"]",
                prefer="wait=30",
            )
            for b in range(count)
        ]
        connections = await self.connect(clients)
        answers: list[bytes] = []

        async def client(connection: Connection) -> None:
            while requests:
                answers.append(expected(await connection.request(requests.pop()), 200))

        begun = time.perf_counter()
        await asyncio.gather(*(client(c) for c in connections))
        took = time.perf_counter() - begun
        close(connections)
        self.acknowledged.bulks += answers
        for body in answers:
            if (counts := orjson.loads(body)["counts"])["accepted"] != size:
                raise UnexpectedAnswerError(f"a bulk of {size}: {counts}")
        return count * size / took

    async def at_rate(self, rate: float, seconds: float) -> OpenLoop:
        """Open loop of transfers between all accounts."""
        connections = await self.connect(OPEN_LOOP_CONNECTIONS)
        free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
        for connection in connections:
            free.put_nowait(connection)
        requests, bodies = self.requests(), self.acknowledged.bodies

        async def send(due: float) -> None:
            connection = await free.get()
            try:
                if time.monotonic() - due > GIVE_UP_S:
                    raise NotSentError(f"no connection for {GIVE_UP_S:.0f} s")
                bodies.append(expected(await connection.request(next(requests)), 201))
            finally:
                free.put_nowait(connection)

        try:
            return await open_loop(rate, seconds, send)
        finally:
            close(connections)


def expected(answer: tuple[int, bytes], status: int) -> bytes:
    """The body of an answer with ``status``; :class:`UnexpectedAnswerError` with any other."""
    got, body = answer
    if got != status:
        raise UnexpectedAnswerError(f"{got} instead of {status}: {body[:300]!r}")
    return body


def close(connections: list[Connection]) -> None:
    """Disconnect all."""
    for connection in connections:
        connection.close()
