"""Load over HTTP against a running stack: singles, one after another, hot against cold, bulks, payments."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import orjson

from benchmarks.http_client import Connection, post


class Bench:
    """One ledger with accounts on a running installation."""

    def __init__(self, data_dir: Path) -> None:
        self.credentials = json.loads((data_dir / "credentials.json").read_text())
        self.token: str = self.credentials["api_key"]
        self.url: str = self.credentials["url"]
        self.host, _, port = self.url.removeprefix("http://").partition(":")
        self.port = int(port)
        self.run = f"{time.time_ns():x}"
        self.ledger = ""
        self.accounts: list[str] = []
        self.posted = 0

    async def prepare(self, accounts: int) -> None:
        """A fresh ledger with ``accounts`` accounts."""
        headers = {"authorization": f"Bearer {self.token}", "prefer": "wait=20"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60) as http:
            made = await http.post(
                "/v1/ledgers", json={"name": "bench"}, headers={"idempotency-key": f"{self.run}-l"}
            )
            self.ledger = made.json()["result"]["ledger_id"]
        connections = [await Connection.open(self.host, self.port) for _ in range(64)]

        async def open_some(number: int) -> list[str]:
            out = []
            for i in range(number, accounts, len(connections)):
                body = orjson.dumps({"code": f"a{i}", "currency": "EUR"})
                path = f"/v1/ledgers/{self.ledger}/accounts"
                status, answer = await connections[number].request(
                    post(path, self.token, f"{self.run}-a{i}", body)
                )
                assert status == 201, answer
                out.append(orjson.loads(answer)["result"]["account_id"])
            return out

        found = await asyncio.gather(*(open_some(n) for n in range(len(connections))))
        self.accounts = [a for part in found for a in part]
        for connection in connections:
            connection.close()

    def transfer(self, source: str, target: str) -> dict[str, Any]:
        """One transfer of 1 cent."""
        return {
            "entries": [
                {"account_id": source, "side": "debit", "amount": 1, "currency": "EUR"},
                {"account_id": target, "side": "credit", "amount": 1, "currency": "EUR"},
            ]
        }

    def pair(self, number: int, hot: bool) -> tuple[str, str]:
        """Accounts of transfer ``number``."""
        a = self.accounts
        first = 0 if hot else number % len(a)
        return a[first], a[(first + 1 + number % (len(a) - 1)) % len(a)]

    async def singles(
        self, clients: int, seconds: float, *, hot: bool = False, name: str = "s"
    ) -> dict[str, float]:
        """Closed loop: each client sends its next transfer when it has its answer."""
        path = f"/v1/ledgers/{self.ledger}/transactions"
        latencies: list[float] = []
        ends = time.perf_counter() + seconds

        async def client(number: int) -> None:
            connection = await Connection.open(self.host, self.port)
            count = 0
            while time.perf_counter() < ends:
                body = orjson.dumps(self.transfer(*self.pair(number + count * clients, hot)))
                begun = time.perf_counter()
                status, answer = await connection.request(
                    post(path, self.token, f"{self.run}-{name}-{number}-{count}", body)
                )
                latencies.append(time.perf_counter() - begun)
                assert status == 201, answer
                count += 1
            connection.close()

        begun = time.perf_counter()
        await asyncio.gather(*(client(n) for n in range(clients)))
        took = time.perf_counter() - begun
        self.posted += len(latencies)
        latencies.sort()
        return {
            "per_s": round(len(latencies) / took, 1),
            "p50_ms": round(latencies[len(latencies) // 2] * 1e3, 2),
            "p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1e3, 2),
        }

    async def bulks(self, count: int, size: int, clients: int) -> dict[str, float]:
        """``count`` bulks of ``size`` transfers from ``clients`` connections."""
        path = f"/v1/ledgers/{self.ledger}/transactions/bulk"
        bodies = [
            orjson.dumps([self.transfer(*self.pair(b * size + i, hot=False)) for i in range(size)])
            for b in range(count)
        ]

        async def client(number: int) -> None:
            connection = await Connection.open(self.host, self.port)
            for b in range(number, count, clients):
                status, answer = await connection.request(
                    post(path, self.token, f"{self.run}-bulk-{b}", bodies[b], prefer="wait=30")
                )
                assert status == 200, answer[:300]
                counts = orjson.loads(answer)["counts"]
                assert counts["accepted"] == size, counts
            connection.close()

        begun = time.perf_counter()
        await asyncio.gather(*(client(n) for n in range(clients)))
        took = time.perf_counter() - begun
        self.posted += count * size
        return {"transfers_per_s": round(count * size / took, 1)}

    async def payments(self, rate: float, seconds: float) -> dict[str, float]:
        """Open loop: payments at ``rate``, each followed to its end on the saga's topic by its own timeline."""
        accounts = self.accounts
        started: dict[str, float] = {}
        settled: dict[str, float] = {}
        headers = {"authorization": f"Bearer {self.token}"}
        connections = [await Connection.open(self.host, self.port) for _ in range(64)]
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for c in connections:
            free.put_nowait(c)

        async def pay(number: int, due: float) -> None:
            connection = await free.get()
            body = orjson.dumps(
                {
                    "ledger_id": self.ledger,
                    "payer": {"account_id": accounts[number % len(accounts)], "name": "Alice Jones"},
                    "payee": {
                        "account_id": accounts[(number + 1) % len(accounts)],
                        "name": f"Bob Miller {number % 97}",
                    },
                    "amount": 100 + number % 50,
                    "currency": "EUR",
                }
            )
            status, answer = await connection.request(
                post("/v1/payments", self.token, f"{self.run}-p{rate}-{number}", body)
            )
            free.put_nowait(connection)
            assert status == 201, answer
            started[orjson.loads(answer)["result"]["payment_id"]] = due

        from benchmarks.ends import watch_ends

        watcher = asyncio.create_task(watch_ends(self.credentials, settled))
        await asyncio.sleep(1.0)
        begun = time.perf_counter()
        tasks = []
        for number in range(int(rate * seconds)):
            due = begun + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(pay(number, due)))
        await asyncio.gather(*tasks)
        deadline = time.perf_counter() + 60
        while len(started.keys() - settled.keys()) and time.perf_counter() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        took = max(settled.values(), default=begun) - begun
        watcher.cancel()
        latencies = sorted(settled[p] - t for p, t in started.items() if p in settled)
        for connection in connections:
            connection.close()
        async with httpx.AsyncClient(base_url=self.url, headers=headers) as http:
            sample = await http.get(f"/v1/payments/{next(iter(started))}")
        return {
            "ended": len(latencies),
            "sent": len(started),
            "per_s": round(len(latencies) / took, 1),
            "p50_ms": round(latencies[len(latencies) // 2] * 1e3, 1) if latencies else -1,
            "p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1e3, 1) if latencies else -1,
            "sample_settled": float(sample.json()["status"] == "settled"),
        }
