"""How streams end: with their operation, for who is too slow, with their gateway; and how they go on after it."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import Any

import orjson
import pytest

from gateway.operations import OperationIds
from tests.kit.api import Caller, callers
from tests.kit.book import Book, book_of
from tests.kit.gateway import OwnGateway, own_gateway
from tests.kit.platform import Platform
from tests.kit.sse import Frame, listening

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]


def _at(caller: Caller, gateway: OwnGateway) -> Caller:
    """The same caller at another gateway."""
    return Caller(caller.http, gateway.base, caller.token)


def _types(frames: list[Frame]) -> list[str]:
    return [f.json().get("type", f.name) for f in frames]


async def test_a_payments_stream_ends_when_it_has_settled_and_goes_on_behind_an_id(
    platform: Platform,
) -> None:
    async with callers(platform, "payer") as (caller,):
        book = await book_of(caller)
        await book.post(1000)
        sent = await caller.post("/v1/payments", book.payment(250), wait_s=None)
        assert sent.status == 202
        path = f"{sent.headers['location']}/events"
        async with listening(caller, path) as stream:
            frames = await stream.until_end()
            with pytest.raises(EOFError):
                await stream.frame()
        async with listening(caller, path, last_id=frames[3].id) as stream:
            rest = await stream.until_end()
    types = _types(frames)
    assert types[0] == "operation"
    assert types[-2:] == ["payments.payment-settled.v1", "end"]
    assert {
        "ledger.hold-placed.v1",
        "ledger.transaction-posted.v1",
        "compliance.screening-completed.v1",
    } < set(types)
    assert frames[0].json()["status"] == "accepted"
    assert frames[-1].json()["reason"] == "completed"
    assert {f.json()["id"] for f in rest[1:-1]} == {f.json()["id"] for f in frames[4:-1]}
    assert len({f.json()["id"] for f in frames[1:-1]}) == len(frames) - 2


async def test_a_refused_command_ends_its_stream_and_another_tenant_never_finds_it(
    platform: Platform,
) -> None:
    async with callers(platform, "refused", "curious") as (caller, other):
        book = await book_of(caller)
        refused = await caller.post(f"{book.path}/transactions", _overdraft(book))
        assert refused.status == 409
        operation = refused.json()["operation"]
        async with listening(caller, f"/v1/operations/{operation}/events") as stream:
            frames = await stream.until_end()
        found = await other.get(f"/v1/operations/{operation}/events")
        forged = await caller.get(f"/v1/operations/{operation[:-1]}x/events")
    assert _types(frames[-1:]) == ["end"]
    assert frames[0].json()["status"] == "rejected"
    assert frames[0].json()["problem"]["type"].endswith("/insufficient-funds")
    assert [(a.status, a.problem) for a in (found, forged)] == [(404, "not-found")] * 2


def _overdraft(book: Book) -> dict[str, Any]:
    body = book.transaction(5)
    body["entries"] = [
        {**leg, "side": "credit" if leg["side"] == "debit" else "debit"} for leg in body["entries"]
    ]
    return body


class OldIds(OperationIds):
    """Made as 0.1.0 made them."""

    def of_0_1_0(self, service: str, shard: int, command_id: str, tenant: str) -> str:
        """``service.shard.command_id.mac``."""
        name = f"{service}.{shard}.{command_id}"
        return f"{name}.{self._mac(name, tenant)}"


async def test_each_item_of_a_bulk_has_a_stream_of_its_own(platform: Platform) -> None:
    ids = OldIds(platform.settings.hmac_key.get_secret_value().encode())
    async with callers(platform, "bulk") as (caller,):
        book = await book_of(caller)
        await book.post(1000)
        async with listening(caller, "/v1/events?types=payments.payment-initiated.v1") as stream:
            bulk = await caller.post("/v1/payments/bulk", [book.payment(1), book.payment(2)])
            first, second = [(await stream.message()).json() for _ in range(2)]
        # An id of 0.1.0, which did not say for which request it was made, is answered as it was.
        named = [r["operation"].rpartition("/")[2] for r in bulk.json()["results"]]
        (operation,) = (n for n in named if second["causationid"] in n)
        old = ids.of_0_1_0("payments", second["shard"], second["causationid"], second["tenant"])
        shown = [(await caller.get(f"/v1/operations/{each}")).json() for each in (operation, old)]
        assert shown[0]["result"] == shown[1]["result"] == {"payment_id": second["subject"]}
        async with listening(caller, f"/v1/operations/{operation}/events") as stream:
            frames = await stream.until_end()
    payments = {f.json()["subject"] for f in frames[1:-1] if f.json()["type"].startswith("payments.")}
    assert payments == {second["subject"]} != {first["subject"]}
    assert _types(frames)[-2] == "payments.payment-settled.v1"
    assert "ledger.transaction-posted.v1" in _types(frames)


async def test_a_listener_goes_on_at_a_gateway_that_was_killed_and_started_again(platform: Platform) -> None:
    async with callers(platform, "survivor") as (caller,):
        book = await book_of(caller)
        with own_gateway(platform) as gateway:
            here = _at(caller, gateway)
            async with listening(here) as stream:
                before = [await book.post() for _ in range(20)]
                frames = [await stream.message() for _ in range(8)]
                last_id = stream.last_id
                gateway.signal(signal.SIGKILL)
                gateway.wait()
            while_away = [await book.post() for _ in range(20)]
            gateway.start()
            async with listening(here, last_id=last_id) as stream:
                after = [await book.post() for _ in range(5)]
                frames += [await stream.message() for _ in range(37)]
    made = [a.result["transaction_id"] for a in (*before, *while_away, *after)]
    assert [f.json()["data"]["transaction_id"] for f in frames] == made


async def test_a_listener_that_does_not_keep_up_is_told_so_and_finds_the_rest_behind_its_last_id(
    platform: Platform,
) -> None:
    count, size = 4_000, 1_000
    async with callers(platform, "slow") as (caller,):
        book = await book_of(caller)
        async with listening(caller) as stream:
            start = stream.last_id
        with socket.socket() as narrow:
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(narrow, ("127.0.0.1", platform.port))
            request = f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {caller.token}\r\nLast-Event-ID: {start}\r\n\r\n"
            await loop.sock_sendall(narrow, request.encode())
            await asyncio.sleep(1.0)  # it has joined, and reads nothing from here on
            made = await _bulks(book, count, size)
            await _published(caller, start, count)
            seen, last_id, end = await _drained(narrow)
        assert end["reason"] == "too-slow"
        assert 0 < len(seen) < count
        async with listening(caller, last_id=last_id) as stream:
            rest = [
                (await stream.message()).json()["data"]["transaction_id"] for _ in range(count - len(seen))
            ]
    assert not set(seen) & set(rest)
    assert sorted(seen + rest) == sorted(made)


async def _bulks(book: Book, count: int, size: int) -> list[str]:
    made: list[str] = []
    for _ in range(count // size):
        items = [book.transaction(1, "x" * 900) for _ in range(size)]
        answer = await book.caller.post(f"{book.path}/transactions/bulk", items, wait_s=30)
        made += [r["result"]["transaction_id"] for r in answer.json()["results"]]
    return made


async def _published(caller: Caller, start: str, count: int) -> None:
    """Another listener, who keeps up, has heard everything."""
    async with listening(caller, last_id=start) as stream:
        for _ in range(count):
            await stream.message()


async def _drained(narrow: socket.socket) -> tuple[list[str], str, dict[str, Any]]:
    """All that the slow one finds when it reads at last: transactions, the last id, the end."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    async with asyncio.timeout(90):
        while b"event: end" not in received or not received.endswith(b"0\r\n\r\n"):
            received += await loop.sock_recv(narrow, 1 << 20)
    lines = _dechunked(bytes(received)).decode().splitlines()
    events = [orjson.loads(line[6:]) for line in lines if line.startswith("data: {")]
    ids = [line[4:] for line in lines if line.startswith("id: ")]
    return [e["data"]["transaction_id"] for e in events[:-1]], ids[-1], events[-1]


def _dechunked(answer: bytes) -> bytes:
    _, _, body = answer.partition(b"\r\n\r\n")
    out = bytearray()
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        out += body[:length]
        body = body[length + 2 :]
    return bytes(out)


async def test_places_are_limited_and_given_back(platform: Platform) -> None:
    limits = {"NEXAFI_MAX_EVENT_STREAMS_PER_TENANT": "2", "NEXAFI_MAX_EVENT_STREAMS": "3"}
    async with callers(platform, "many", "few") as (many, few):
        with own_gateway(platform, **limits) as gateway:
            here, there = _at(many, gateway), _at(few, gateway)
            async with listening(here), listening(here):
                third = await here.get("/v1/events")
                async with listening(there):
                    fourth = await there.get("/v1/events")
            async with asyncio.timeout(30):
                for _ in range(6):  # those that left make room
                    await _listens(here)
    assert (third.status, third.problem) == (429, "too-many-requests")
    assert (fourth.status, fourth.problem) == (503, "overloaded")
    assert third.headers["retry-after"] == "5"


async def _listens(caller: Caller) -> None:
    while True:
        try:
            async with listening(caller):
                return
        except AssertionError:  # the server may hear of a closed connection a moment later
            await asyncio.sleep(0.1)
