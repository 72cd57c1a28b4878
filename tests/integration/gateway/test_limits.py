"""S19: size and time limits, and bad bytes of every kind. 4xx with a type and a pointer, never a 5xx, memory bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psutil
import pytest

from tests.integration.gateway import hostile
from tests.integration.gateway.world import World, hold
from tests.kit.api import Answer, Caller
from tests.kit.soak import Printed
from tests.unit.gateway.kit import Answer as RawAnswer
from tests.unit.gateway.kit import raw

MEGABYTE = 1 << 20
MAX_GROWTH = 50 * MEGABYTE


@asynccontextmanager
async def memory_bounded(process: psutil.Process) -> AsyncIterator[list[int]]:
    """Watch a process's resident memory; it may grow by :data:`MAX_GROWTH` at its highest."""
    before = process.memory_info().rss
    grown = [0]

    async def watch() -> None:
        while True:
            grown[0] = max(grown[0], process.memory_info().rss - before)
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield grown
    finally:
        watching.cancel()
    assert grown[0] <= MAX_GROWTH, f"the gateway grew by {grown[0] / MEGABYTE:.0f} MB"


def assert_refused(name: str, answer: Answer | RawAnswer) -> dict[str, Any]:
    """A 4xx that says why, in the form of RFC 9457."""
    assert 400 <= answer.status < 500, (name, answer.status, answer.body[:300])
    assert answer.headers["content-type"] == "application/problem+json", (name, answer)
    problem: dict[str, Any] = json.loads(answer.body)
    assert problem["status"] == answer.status
    assert problem["type"].startswith("https://nexafi.dev/problems/")
    return problem


async def _alive(caller: Caller) -> None:
    answer = await caller.get("/v1/ledgers?limit=1")
    assert answer.status == 200, answer


async def _many(world: World, named: Iterable[hostile.Named], at_once: int = 8) -> int:
    """Send raw requests, each on a connection of its own; every one must be refused."""
    slots = asyncio.Semaphore(at_once)

    async def one(name: str, request: bytes) -> None:
        async with slots:
            assert_refused(name, await raw(world.platform.port, _pieces(request), timeout_s=60))

    return len(await asyncio.gather(*(one(*each) for each in named)))


def _pieces(request: bytes) -> list[bytes]:
    return [request[at : at + 65_536] for at in range(0, len(request), 65_536)]


def _valid(world: World) -> bytes:
    body = hold(world.ours.accounts, 1) | {"reference": "r"}
    return json.dumps(body, separators=(",", ":")).encode()


async def test_bad_bodies_are_refused_alone_in_a_bulk_and_in_a_line(
    world: World, http: aiohttp.ClientSession, printed: Printed
) -> None:
    caller = world.ours.caller(http, world.platform.url)
    path, good = f"/v1/ledgers/{world.ours.ids['ledger_id']}/holds", _valid(world)
    assert (await caller.post(path, good)).status == 201, "the body must be good but for what is done to it"
    lines = {"Content-Type": "application/x-ndjson"}
    count = 0
    async with memory_bounded(world.platform.process("gateway")) as grown:
        for name, body in hostile.bodies(good):
            problem = assert_refused(name, await caller.post(path, body, tries=1))
            assert "pointer" in problem, (name, problem)
            as_array = await caller.post(f"{path}/bulk", b"[" + body + b"]", tries=1)
            as_line = await caller.post(f"{path}/bulk", body, headers=lines, tries=1)
            for answer in (as_array, as_line):
                count += 1
                if answer.status == 200:
                    assert set(answer.json()["counts"].items()) >= {("accepted", 0), ("pending", 0)}, (
                        name,
                        answer,
                    )
                    assert all("pointer" in item["problem"] for item in answer.json()["results"]), (
                        name,
                        answer,
                    )
                else:
                    assert_refused(name, answer)
    await _alive(caller)
    printed("S19", bad_bodies=count * 3 // 2, server_errors=0, memory_mb=grown[0] // MEGABYTE)


async def test_bodies_that_are_too_large_are_refused_whatever_carries_them(
    world: World, http: aiohttp.ClientSession
) -> None:
    token, ledger = world.ours.token, world.ours.ids["ledger_id"]
    one, bulk = f"/v1/ledgers/{ledger}/holds", f"/v1/ledgers/{ledger}/holds/bulk"
    valid, ten = _valid(world), b" " * (10 * MEGABYTE)
    announced = [
        hostile.post(path, token, ten) for path in (one, bulk, "/v1/payments", "/nowhere", "/oauth/token")
    ]
    begun = hostile.head(
        "POST",
        bulk,
        token,
        "Content-Type: application/json",
        "Idempotency-Key: k",
        "Transfer-Encoding: chunked",
    )
    streamed = begun + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 160 + b"0\r\n\r\n"
    items = b"[" + b",".join([valid] * 10_001) + b"]"
    parts = (
        b"".join(b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % n for n in range(10_000))
        + b"--b--\r\n"
    )
    legs = json.dumps(
        {"entries": [{"account_id": ledger, "side": "debit", "amount": 1, "currency": "EUR"}] * 501}
    ).encode()
    named = [(f"10 MB, {n}", request) for n, request in enumerate(announced)] + [
        ("10 MB in chunks", streamed),
        ("10,001 items", hostile.post(bulk, token, items)),
        ("10,001 lines", hostile.post(bulk, token, b"{}\n" * 10_001, kind="application/x-ndjson")),
        ("10,000 parts", hostile.post(one, token, parts, kind="multipart/form-data; boundary=b")),
        ("10,000 parts in a bulk", hostile.post(bulk, token, parts, kind="multipart/form-data; boundary=b")),
        ("501 legs", hostile.post(f"/v1/ledgers/{ledger}/transactions", token, legs)),
        ("1,000,000 values", hostile.post(bulk, token, b"[" + b"1," * 999_999 + b"1]")),
        ("300 KB for one command", hostile.post(one, token, valid[:-1] + b" " * 300_000 + b"}")),
        ("a gzip bomb", hostile.post(one, token, b"\x1f\x8b" + b"\0" * 1000, "Content-Encoding: gzip")),
    ]  # fmt: skip
    caller = world.ours.caller(http, world.platform.url)
    async with memory_bounded(world.platform.process("gateway")):
        assert await _many(world, named * 2, at_once=6) == 2 * len(named)
    await _alive(caller)


async def test_many_large_bodies_at_once_take_bounded_memory(
    world: World, http: aiohttp.ClientSession
) -> None:
    """Each is as large as one may be; together they would be 400 MB. Whoever finds no room is told to come again."""
    token, ledger = world.ours.token, world.ours.ids["ledger_id"]
    body = b"[" + b" " * (4 * MEGABYTE - 4096) + b"1]"
    request = hostile.post(f"/v1/ledgers/{ledger}/holds/bulk", token, body)
    async with memory_bounded(world.platform.process("gateway")):
        answers = await asyncio.gather(
            *(raw(world.platform.port, _pieces(request), timeout_s=90) for _ in range(100))
        )
    statuses = {answer.status for answer in answers}
    assert statuses <= {200, 422, 429}, statuses
    await _alive(world.ours.caller(http, world.platform.url))


async def test_what_is_no_request_is_refused_and_nothing_is_smuggled(
    world: World, http: aiohttp.ClientSession
) -> None:
    caller, token = world.ours.caller(http, world.platform.url), world.ours.token
    path = f"/v1/ledgers/{world.ours.ids['ledger_id']}/holds"
    async with memory_bounded(world.platform.process("gateway")):
        assert await _many(world, hostile.wires(token)) > 20
        assert await _many(world, hostile.chunks(path, token)) > 10
        for name, request in hostile.framings(path, token):
            answers = await _whole(world, request)
            assert answers.count(b"HTTP/1.1 ") == 1, (name, "a second request was seen", answers)
            assert answers.startswith(b"HTTP/1.1 4"), (name, answers[:200])
    await _alive(caller)


async def _whole(world: World, request: bytes) -> bytes:
    """Everything that a connection answers until it is closed, or silent for a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.platform.port)
    writer.write(request)
    got = b""
    while True:
        try:
            part = await asyncio.wait_for(reader.read(65_536), 5 if not got else 1)
        except (TimeoutError, ConnectionError):
            break
        if not part:
            break
        got += part
    writer.close()
    return got


async def test_odd_paths_and_queries_are_refused(world: World, http: aiohttp.ClientSession) -> None:
    caller, ledger = world.ours.caller(http, world.platform.url), world.ours.ids["ledger_id"]
    for path in hostile.PATHS:
        request = hostile.head("GET", path, world.ours.token)
        assert_refused(path, await raw(world.platform.port, request))
    lists = (
        "/v1/ledgers",
        f"/v1/ledgers/{ledger}/accounts",
        "/v1/payments",
        "/v1/search",
        "/v1/clients",
        "/v1/api-keys",
    )
    for path in lists:
        for query in hostile.QUERIES:
            request = hostile.head("GET", f"{path}?{query}", world.ours.token)
            problem = assert_refused(f"{path}?{query}", await raw(world.platform.port, request))
            if problem["type"].endswith("invalid-parameter") and "limit=" in query[:6]:
                assert problem.get("pointer") == "?limit" or "&" in query or ";" in query, (query, problem)
    await _alive(caller)


@pytest.mark.timeout(120)
async def test_slow_senders_are_ended_and_hold_nobody_up(world: World, http: aiohttp.ClientSession) -> None:
    """A head in 10 s, a body in 20 s. Meanwhile, and with fewer places than there are slow ones, tokens are issued."""
    port, token = world.platform.port, world.ours.token
    bulk = f"/v1/ledgers/{world.ours.ids['ledger_id']}/holds/bulk"
    slow_head = [b"GET /v1/ledgers HTTP/1.1\r\nHost: x\r\n", *[b"X-A: b\r\n"] * 60]
    announced = hostile.head(
        "POST", bulk, token, "Content-Type: application/json", "Idempotency-Key: k", "Content-Length: 1000"
    )
    form = hostile.head(
        "POST",
        "/oauth/token",
        token,
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Length: 1000",
    )
    senders = [
        *(raw(port, slow_head, pause_s=0.5, timeout_s=60) for _ in range(30)),
        *(raw(port, [announced, *[b" "] * 60], pause_s=0.5, timeout_s=60) for _ in range(30)),
        *(raw(port, [form, *[b"a"] * 60], pause_s=0.5, timeout_s=60) for _ in range(80)),
        *(raw(port, [b"", b""], pause_s=8, timeout_s=60) for _ in range(10)),
    ]
    async with memory_bounded(world.platform.process("gateway")):
        sending = [asyncio.create_task(sender) for sender in senders]
        await asyncio.sleep(2)
        caller = world.ours.caller(http, world.platform.url)
        client = await caller.client(["ledger:read"])
        narrowed = await asyncio.wait_for(caller.with_token(*client), 12)
        assert (await narrowed.get("/v1/ledgers")).status == 200
        assert not any(task.done() for task in sending[30:140]), "the slow ones were to be slow still"
        for answer in await asyncio.gather(*sending):
            assert_refused("slow", answer)
            assert answer.status == 408
    await _alive(caller)
