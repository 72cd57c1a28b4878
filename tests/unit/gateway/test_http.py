"""Serving: health tells the truth, errors are problems, size and time are bounded (S19), the end is graceful."""

from __future__ import annotations

import asyncio
import gc
import itertools
from typing import Any

import psutil
import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel

from nexafi.http_protocol import Limits
from nexafi.internal_auth import InternalAuth
from nexafi.problems import ProblemError
from nexafi.role import RoleContext
from nexafi.settings import Settings
from tests.unit.gateway.kit import Answer, context, raw, read_answer, serving

LIMITS = Limits(max_body_bytes=100_000, head_timeout_s=1.0, body_timeout_s=1.0, drain_s=3)


class Leaf(BaseModel):
    amount: int


class Thing(BaseModel):
    items: list[Leaf]


def make_app(*, gate: asyncio.Event | None = None) -> FastAPI:
    app = FastAPI()

    @app.post("/things")
    async def things(thing: Thing) -> dict[str, int]:
        return {"n": len(thing.items)}

    @app.post("/raw")
    async def raw_body(request: Request) -> dict[str, int]:
        return {"n": len(await request.body())}

    @app.get("/things/{n}")
    async def one(n: int, limit: int = 5) -> dict[str, int]:
        return {"n": n, "limit": limit}

    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError("secret detail 4111111111111111")

    @app.get("/refused")
    async def refused() -> None:
        raise ProblemError("conflict", "no", pointer="/x", headers={"Retry-After": "3"})

    @app.get("/slow")
    async def slow() -> dict[str, bool]:
        assert gate is not None
        await gate.wait()
        return {"ok": True}

    @app.get("/internal/x")
    async def internal(request: Request) -> dict[str, Any]:
        return {"caller": request.scope["nexafi.caller"]}

    return app


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers]).encode() + b"\r\n\r\n"


def assert_problem(answer: Answer, status: int, slug: str) -> dict[str, Any]:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"].endswith("/" + slug), body
    assert body["status"] == status
    assert body["title"]
    return body


async def test_errors_are_problems() -> None:
    async with serving(make_app(), context(), LIMITS) as port:
        ok = await raw(port, post("/things", b'{"items":[{"amount":1}]}'))
        assert (ok.status, ok.json()) == (200, {"n": 1})
        bad = assert_problem(
            await raw(port, post("/things", b'{"items":[{"amount":"x"}]}')), 422, "validation-failed"
        )
        assert bad["pointer"] == "/items/0/amount"
        assert bad["errors"][0]["pointer"] == "/items/0/amount"
        assert_problem(await raw(port, post("/things", b'{"items":')), 400, "malformed-json")
        assert_problem(await raw(port, get("/nowhere")), 404, "not-found")
        assert_problem(await raw(port, get("/things/abc")), 404, "not-found")
        wrong = await raw(port, get("/things", method="PUT"))
        assert_problem(wrong, 405, "method-not-allowed")
        assert wrong.headers["allow"] == "POST"
        bad = assert_problem(await raw(port, get("/things/1?limit=x")), 400, "invalid-parameter")
        assert bad["pointer"] == "?limit"
        refused = await raw(port, get("/refused"))
        assert assert_problem(refused, 409, "conflict")["pointer"] == "/x"
        assert refused.headers["retry-after"] == "3"


async def test_an_unexpected_error_names_a_correlation_id_and_nothing_else() -> None:
    async with serving(make_app(), context(), LIMITS) as port:
        answer = await raw(port, get("/boom"))
        body = assert_problem(answer, 500, "internal-error")
        assert len(body["correlation_id"]) > 8
        assert b"secret" not in answer.body
        assert b"RuntimeError" not in answer.body


async def test_health_tells_the_truth() -> None:
    ctx = context()
    async with serving(make_app(), ctx, LIMITS) as port:
        assert (await raw(port, get("/healthz"))).status == 200
        assert (await raw(port, get("/readyz"))).json()["ready"] is True
        ctx.health.bad("kafka", "no broker answers")
        unready = await raw(port, get("/readyz"))
        assert (unready.status, unready.json()["problems"]) == (503, {"kafka": "no broker answers"})
        assert (await raw(port, get("/metrics"))).status == 200
        assert_problem(await raw(port, get("/healthz", method="DELETE")), 405, "method-not-allowed")


async def test_internal_routes_answer_only_signed_requests() -> None:
    async with serving(make_app(), context(hmac_key="k1"), LIMITS) as port:
        assert_problem(await raw(port, get("/internal/x")), 401, "unauthenticated")
        assert_problem(await raw(port, get("/%69nternal/x")), 401, "unauthenticated")
        signed = InternalAuth.of(Settings(hmac_key="k1")).sign("acme", "me", "/internal/x")
        answer = await raw(port, get("/internal/x", *(f"{k}: {v}" for k, v in signed.items())))
        assert answer.json() == {"caller": ["acme", "me"]}


async def test_a_large_body_is_refused_before_it_is_read() -> None:
    async with serving(make_app(), context(), LIMITS) as port:
        head = post("/raw", b"", length=10_000_000)
        assert_problem(await raw(port, head), 413, "body-too-large")  # not one byte of the body was sent
        process = psutil.Process()
        gc.collect()
        before = process.memory_info().rss
        block = b"x" * 65536
        for _ in range(5):
            answer = await raw(port, itertools.chain([head], itertools.repeat(block, 10_000_000 // 65536)))
            assert_problem(answer, 413, "body-too-large")
        assert process.memory_info().rss - before < 20_000_000


async def test_a_streamed_body_is_bounded() -> None:
    head = b"POST /raw HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    async with serving(make_app(), context(), LIMITS) as port:
        ok = await raw(port, [head, chunk, b"0\r\n\r\n"])
        assert ok.json() == {"n": 0x4000}
        assert_problem(await raw(port, [head, *[chunk] * 20, b"0\r\n\r\n"]), 413, "body-too-large")


@pytest.mark.parametrize(
    ("pieces", "slug"),
    [
        ([b"GET /things/1 HTTP/1.1\r\n", *[b"x-a: b\r\n"] * 100], "request-timeout"),
        ([b""], "request-timeout"),
        ([post("/raw", b"", length=1000), *[b"x"] * 100], "request-timeout"),
    ],
    ids=["head", "nothing", "body"],
)
async def test_slow_senders_are_ended(pieces: list[bytes], slug: str) -> None:
    async with serving(make_app(), context(), LIMITS) as port:
        assert_problem(await raw(port, pieces, pause_s=0.05), 408, slug)


async def test_a_slow_sender_frees_the_request_that_waited_for_it() -> None:
    ctx = context()
    async with serving(make_app(), ctx, LIMITS) as port:
        await asyncio.gather(
            *(raw(port, [post("/raw", b"", length=9), *[b"x"] * 8], pause_s=0.5) for _ in range(20))
        )
        assert (await raw(port, get("/things/1"))).status == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"x-a: " + b"b" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nx-a: " + b"b" * 200_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /raw HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /raw HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
    ],
    ids=["uri", "header", "endless", "tls", "smuggling", "negative", "overflow"],
)
async def test_heads_are_bounded_and_well_formed(request_bytes: bytes, status: int) -> None:
    async with serving(make_app(), context(), LIMITS) as port:
        answer = await raw(port, request_bytes)
        assert answer.status == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await raw(port, get("/things/1"))).status == 200


async def test_too_many_connections_and_requests_are_turned_away() -> None:
    gate = asyncio.Event()
    async with serving(make_app(gate=gate), context(), Limits(max_requests=2, max_connections=4)) as port:
        waiting = [asyncio.create_task(raw(port, get("/slow"))) for _ in range(2)]
        await asyncio.sleep(0.1)
        over = await raw(port, get("/things/1"))
        assert_problem(over, 503, "overloaded")
        assert over.headers["retry-after"] == "1"
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        await asyncio.sleep(0.1)
        closed = [w for r, w in idle if r.at_eof()]
        assert len(closed) >= 6
        for _, writer in idle:
            writer.close()
        gate.set()
        assert [(await w).status for w in waiting] == [200, 200]


async def test_the_end_is_graceful() -> None:
    """What was accepted is answered after the stop; then the port is closed."""
    gate = asyncio.Event()
    ctx: RoleContext = context()
    async with serving(make_app(gate=gate), ctx, LIMITS) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/slow"))
        await asyncio.sleep(0.1)
        ctx.stop.set()
        await asyncio.sleep(0.3)
        assert not ctx.health.ready
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        gate.set()
        assert (await read_answer(reader)).status == 200
        writer.close()


async def test_a_port_that_is_taken_says_so() -> None:
    async with serving(make_app(), context(), LIMITS) as port:
        from nexafi.http import serve

        with pytest.raises(OSError, match="in use"):
            await serve(make_app(), port, context())
