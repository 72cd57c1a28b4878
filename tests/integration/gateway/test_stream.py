"""Events over SSE on a whole platform: nothing lost, nothing twice, nothing of another tenant."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from schemas.common import tokens
from tests.kit.api import callers
from tests.kit.book import Book, book_of
from tests.kit.platform import Platform
from tests.kit.sse import Frame, Stream, listening

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]


async def _posted(stream: Stream, count: int) -> list[Frame]:
    """Frames until ``count`` transactions were posted."""
    found: list[Frame] = []
    while sum(f.json()["type"] == "ledger.transaction-posted.v1" for f in found) < count:
        found.append(await stream.message())
    return found


def assert_whole(frames: list[Frame]) -> None:
    """Every event once, in order within its shard, and each id is the token of what was seen."""
    last: dict[str, int] = {}
    for frame in frames:
        position = frame.json()["position"]
        assert position > last.get(frame.source, 0), f"{frame.source} {position} after {last}"
        last[frame.source] = position
        assert tokens.decode(frame.id)[frame.source] == position
    ids = [frame.json()["id"] for frame in frames]
    assert len(set(ids)) == len(ids)


def _transactions(frames: list[Frame]) -> list[str]:
    return sorted(
        f.json()["data"]["transaction_id"]
        for f in frames
        if f.json()["type"] == "ledger.transaction-posted.v1"
    )


async def _load(book: Book, count: int) -> list[str]:
    answers = await asyncio.gather(*(book.post() for _ in range(count)))
    return sorted(a.result["transaction_id"] for a in answers)


async def test_a_listener_sees_each_event_of_its_tenant_once_and_none_of_another(platform: Platform) -> None:
    async with callers(platform, "one", "two") as (one, two):
        mine, theirs = await book_of(one), await book_of(two)
        async with listening(one) as at_one, listening(two) as at_two:
            made = await asyncio.gather(_load(mine, 40), _load(theirs, 40))
            seen = await asyncio.gather(_posted(at_one, 40), _posted(at_two, 40))
    for frames, transactions in zip(seen, made, strict=True):
        assert_whole(frames)
        assert _transactions(frames) == transactions
    tenants = [{f.json()["tenant"] for f in frames} for frames in seen]
    assert [len(found) for found in tenants] == [1, 1]
    assert tenants[0] != tenants[1]


async def test_a_listener_that_is_cut_off_again_and_again_loses_and_repeats_nothing(
    platform: Platform,
) -> None:
    dice = random.Random(7)
    async with callers(platform, "cut") as (caller,):
        book = await book_of(caller)
        async with listening(caller) as stream:
            last_id = stream.last_id
        loading = asyncio.create_task(_load(book, 120))
        frames: list[Frame] = []
        cuts = 0
        while len(_transactions(frames)) < 120:
            async with listening(caller, last_id=last_id) as stream:
                for _ in range(dice.randint(1, 25)):
                    frames.append(await stream.message())
                    last_id = stream.last_id
                    if len(_transactions(frames)) == 120:
                        break
            cuts += 1
        made = await loading
    assert_whole(frames)
    assert _transactions(frames) == made
    assert cuts > 4


async def test_history_and_topics_give_the_same_events(platform: Platform) -> None:
    async with callers(platform, "same") as (caller,):
        book = await book_of(caller)
        async with listening(caller) as stream:
            start = stream.last_id
            await _load(book, 10)
            live = await _posted(stream, 10)
        async with listening(caller, last_id=start) as stream:
            stored = await _posted(stream, 10)
        async with listening(caller, f"/v1/events?after={start}") as stream:
            by_query = await _posted(stream, 10)
    assert [f.json() for f in stored] == [f.json() for f in live]
    assert [f.id for f in stored] == [f.id for f in by_query]


async def test_types_and_correlation_choose(platform: Platform) -> None:
    async with callers(platform, "choosy") as (caller,):
        book = await book_of(caller)
        async with listening(caller) as stream:
            start = stream.last_id
        answers = [await book.post() for _ in range(3)]
        await caller.post(f"{book.path}/holds", _hold(book))
        chosen = answers[1].json()["id"].split(".")[2]
        async with listening(caller, "/v1/events?types=ledger.hold-*", last_id=start) as stream:
            hold = (await stream.message()).json()
        async with listening(caller, f"/v1/events?correlation={chosen}", last_id=start) as stream:
            one = (await stream.message()).json()
    assert hold["type"] == "ledger.hold-placed.v1"
    assert one["correlationid"] == chosen
    assert one["data"]["transaction_id"] == answers[1].result["transaction_id"]


def _hold(book: Book) -> dict[str, Any]:
    return {
        "debit_account_id": book.alice,
        "credit_account_id": book.bob,
        "amount": 1,
        "currency": "EUR",
    }


@pytest.mark.parametrize(
    ("query", "headers", "problem"),
    [
        ("?types=ledger.nothing.v1", {}, "invalid-parameter"),
        ("?kind=ledger", {}, "invalid-parameter"),
        ("?correlation=%0a", {}, "invalid-parameter"),
        ("", {"last-event-id": "what?"}, "invalid-consistency-token"),
        ("?after=%7B%7D", {}, "invalid-consistency-token"),
        ("", {"last-event-id": tokens.one("ledger", 0, 2**40)}, "invalid-consistency-token"),
    ],
)
async def test_what_can_not_be_listened_to_is_refused(
    platform: Platform, query: str, headers: dict[str, str], problem: str
) -> None:
    async with callers(platform, "refused") as (caller,):
        answer = await caller.call("GET", f"/v1/events{query}", headers=headers)
    assert answer.status == 400, answer
    assert answer.problem == problem


async def test_a_service_that_one_may_not_read_is_not_heard_either(platform: Platform) -> None:
    async with callers(platform, "narrow") as (caller,):
        book = await book_of(caller)
        narrow = await caller.key(["events:read", "payments:read"])
        without = await caller.key(["ledger:read", "payments:read", "compliance:read"])
        nothing = await caller.key(["events:read"])
        async with listening(narrow) as stream:
            await book.post(100)
            payment = await caller.post("/v1/payments", book.payment(5))
            frames = [await stream.message()]
            while frames[-1].json()["type"] != "payments.payment-settled.v1":
                frames.append(await stream.message())
        assert {f.json()["type"].partition(".")[0] for f in frames} == {"payments"}
        assert {f.json()["subject"] for f in frames} == {payment.result["payment_id"]}
        for other in (without, nothing):
            answer = await other.get("/v1/events")
            assert (answer.status, answer.problem) == (403, "forbidden")


async def test_a_revoked_key_hears_no_more(platform: Platform) -> None:
    async with callers(platform, "revoked") as (caller,):
        made = await caller.post("/v1/api-keys", {"name": "short", "scopes": ["events:read", "ledger:read"]})
        short = type(caller)(caller.http, caller.base, made.json()["api_key"])
        await short.known()
        async with listening(short) as stream:
            await caller.call("DELETE", f"/v1/api-keys/{made.result['key_id']}")
            (end,) = await stream.until_end()
            with pytest.raises(EOFError):
                await stream.frame()
    assert end.json()["reason"] == "unauthenticated"
