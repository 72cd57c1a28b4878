"""R2 and R3 over HTTP: one effect for each idempotency key, however often and however closely it is sent."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import aiohttp

from tests.integration.gateway.world import World, transfer
from tests.kit.api import Answer, Caller
from tests.kit.gateway import own_gateway
from tests.kit.soak import Figure, Printed, figures
from tests.kit.sse import listening

_AT_ONCE = 48


class Book:
    """A ledger of its own in which every accepted command moves ``amount`` from cash to one account."""

    def __init__(self, caller: Caller, ledger: str, cash: str, account: str) -> None:
        self.caller = caller
        self.path = f"/v1/ledgers/{ledger}"
        self.accounts = (cash, account)

    @classmethod
    async def make(cls, caller: Caller) -> Book:
        """An empty one."""
        ledger = await caller.make("/v1/ledgers", {"name": "keys"}, "ledger_id")
        ids = [
            await caller.make(
                f"/v1/ledgers/{ledger}/accounts",
                {"code": code, "currency": "EUR", "normal_side": side},
                "account_id",
            )
            for code, side in (("cash", "debit"), ("account", "credit"))
        ]
        return cls(caller, ledger, *ids)

    async def move(self, amount: int, key: str, **options: Any) -> Answer:
        """One command."""
        body = {"entries": transfer(*self.accounts, amount)}
        return await self.caller.post(f"{self.path}/transactions", body, key=key, **options)

    async def settled(self, answer: Answer) -> dict[str, Any]:
        """The operation of an answer, once it is decided."""
        operation: dict[str, Any] = answer.json()
        while operation["status"] == "pending":
            await asyncio.sleep(0.2)
            operation = (await self.caller.get(f"/v1/operations/{operation['id']}")).json()
        return operation

    async def moved(self, operation: dict[str, Any] | None = None) -> tuple[int, int]:
        """The account's balance and the number of its entries, once all commands so far are in the view."""
        last = await self.move(1, f"last-{random.random()}")  # of the same shard: its token covers the others
        token = last.headers["consistency-token"]
        read = await self.caller.get(f"{self.path}/trial-balance", consistency_token=token)
        (row,) = (row for row in read.json()["currencies"] if row["currency"] == "EUR")
        account = await self.caller.get(f"{self.path}/accounts/{self.accounts[1]}", consistency_token=token)
        assert row["posted_credit"] == row["posted_debit"] == account.json()["posted_credit"]
        return row["posted_credit"] - 1, row["entries"] // 2 - 1


async def spread(
    work: Iterable[Callable[[], Coroutine[Any, Any, Any]]], at_once: int = _AT_ONCE
) -> list[Any]:
    """Run all, a bounded number at a time."""
    slots = asyncio.Semaphore(at_once)

    async def one(each: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async with slots:
            return await each()

    return await asyncio.gather(*(one(each) for each in work))


@figures("R2 over HTTP")
async def test_a_key_sent_one_to_five_times_at_once_has_one_effect_and_one_answer(
    world: World, http: aiohttp.ClientSession, figure: Figure, printed: Printed
) -> None:
    book = await Book.make(world.ours.caller(http, world.platform.url))
    chance = random.Random(2)
    sends = {f"k-{n}": chance.randint(1, 5) for n in range(figure["keys"])}

    async def all_of(key: str) -> int:
        wait_s = chance.choice((20, 20, 1, None))
        answers = await asyncio.gather(*(book.move(1, key, wait_s=wait_s) for _ in range(sends[key])))
        assert {a.status for a in answers} <= {201, 202}, answers
        waited = {a.body for a in answers if a.status == 201}
        assert len(waited) <= 1, "two callers heard two answers"
        operations = [await book.settled(a) for a in answers]
        assert all(o == operations[0] for o in operations), operations
        assert operations[0]["status"] == "accepted"
        identifier: int = operations[0]["result"]["transaction_id"]
        return identifier

    made = await spread(lambda key=key: all_of(key) for key in sends)  # type: ignore[misc]
    keys = len(sends)
    assert len(set(made)) == keys
    assert await book.moved() == (keys, keys)
    again = await spread(lambda key=key: book.move(1, key) for key in list(sends)[:100])  # type: ignore[misc]
    assert [a.result["transaction_id"] for a in again] == made[:100]
    printed("R2", keys=keys, sends=sum(sends.values()), effects=keys, unequal_answers=0)


@figures("R3")
async def test_the_same_key_with_another_body_is_refused_and_does_nothing(
    world: World, http: aiohttp.ClientSession, figure: Figure, printed: Printed
) -> None:
    book = await Book.make(world.ours.caller(http, world.platform.url))

    async def pair(number: int) -> int:
        key, amounts = f"pair-{number}", (10, 1_000_000)
        if number % 2:
            answers = [await book.move(amount, key) for amount in amounts]
        else:  # both on their way together: whichever is first wins
            answers = list(await asyncio.gather(*(book.move(amount, key) for amount in amounts)))
        won = [(amount, a) for amount, a in zip(amounts, answers, strict=True) if a.status == 201]
        lost = [a for a in answers if a.status != 201]
        assert len(won) == len(lost) == 1, answers
        assert (lost[0].status, lost[0].problem) == (422, "idempotency-key-reused")
        assert lost[0].json()["pointer"] == "Idempotency-Key"
        return won[0][0]

    accepted = await spread(lambda n=n: pair(n) for n in range(figure["pairs"]))  # type: ignore[misc]
    assert await book.moved() == (sum(accepted), figure["pairs"])
    printed("R3", pairs=figure["pairs"], refused=figure["pairs"], effects_of_refused=0)


async def test_who_does_not_wait_hears_of_the_conflict_too_and_never_of_anothers_result(
    world: World, http: aiohttp.ClientSession
) -> None:
    """Given a key that stands for one request; when another body comes without `Prefer: wait`; then it is refused at
    once where this gateway knows the first, and else (another gateway) by the operation that it was told to poll."""
    caller = world.ours.caller(http, world.platform.url)
    book = await Book.make(caller)
    first = await book.move(10, "edge")
    here = await book.move(99, "edge", wait_s=None)
    assert (here.status, here.problem) == (422, "idempotency-key-reused")
    assert here.json()["pointer"] == "Idempotency-Key"
    with own_gateway(world.platform) as other:
        book.caller = world.ours.caller(http, other.base)
        there = await book.move(99, "edge", wait_s=None)
        assert there.status == 202
        shown = await book.settled(there)
        assert (shown["status"], "result" in shown) == ("rejected", False)
        assert shown["problem"]["type"].endswith("/idempotency-key-reused")
        assert shown["problem"]["status"] == 422
        async with listening(book.caller, f"{there.headers['location']}/events") as stream:
            frames = await stream.until_end()
        assert [f.json().get("status") for f in frames] == ["rejected", None]
        again = await book.move(10, "edge", wait_s=None)
        assert (await book.settled(again))["result"] == first.result
        pending = await caller.post(
            f"{book.path}/transactions/bulk",
            [{"entries": transfer(*book.accounts, n)} for n in (1, 2)],
            key="edge-bulk",
        )
        changed = await book.caller.post(
            f"{book.path}/transactions/bulk",
            [{"entries": transfer(*book.accounts, n)} for n in (1, 3)],
            key="edge-bulk",
        )
    book.caller = caller
    one, two = (r["operation"] for r in pending.json()["results"])
    assert changed.json()["results"][0]["operation"] == one, "the same item is the same operation"
    other_two = changed.json()["results"][1]["operation"]
    assert other_two != two
    assert (await caller.get(two)).json()["status"] == "accepted"
    assert (await caller.get(other_two)).json()["problem"]["type"].endswith("/idempotency-key-reused")
    assert await book.moved() == (13, 3)


async def test_a_key_names_a_request_of_one_caller_on_one_path(
    world: World, http: aiohttp.ClientSession
) -> None:
    caller = world.ours.caller(http, world.platform.url)
    one, other = await Book.make(caller), await Book.make(caller)
    first, second = await one.move(5, "same"), await other.move(5, "same")
    assert first.result["transaction_id"] != second.result["transaction_id"]
    quoted = await one.move(5, '"same"')
    assert quoted.result == first.result, "a structured field's quotes are no part of the key"
    spaced = await caller.post(
        f"{one.path}/accounts", b'{ "currency":"EUR",\n "code":"spaced" }', key="spaces"
    )
    packed = await caller.post(f"{one.path}/accounts", {"code": "spaced", "currency": "EUR"}, key="spaces")
    assert spaced.result == packed.result, "spaces and the order of fields make no other request"


async def test_keys_that_are_none_are_refused(world: World, http: aiohttp.ClientSession) -> None:
    caller = world.ours.caller(http, world.platform.url)
    for key in ("", " ", '""', "a b", "k" * 256, "\u00e9", "\t", '"' + "k" * 256 + '"'):
        answer = await caller.call("POST", "/v1/ledgers", {"name": "x"}, headers={"Idempotency-Key": key})
        assert answer.status == 400, (key, answer)
        assert answer.problem in ("idempotency-key-invalid", "idempotency-key-required")
        assert answer.json()["pointer"] == "Idempotency-Key"
    for key in ("k", "k" * 255, '"', "!~", "../../x", "' OR 1=1"[:4]):
        answer = await caller.call("POST", "/v1/ledgers", {"name": "x"}, headers={"Idempotency-Key": key})
        assert answer.status == (201 if " " not in key else 400), (key, answer)
    url = f"{world.platform.url}/v1/ledgers"
    named = [("Authorization", f"Bearer {world.ours.token}"), ("Content-Type", "application/json")]
    async with http.post(url, data=b'{"name":"x"}', headers=named) as answer:
        assert answer.status == 400
        assert (await answer.json(content_type=None))["type"].endswith("/idempotency-key-required")
    twice = [*named, ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    async with http.post(url, data=b'{"name":"x"}', headers=twice) as answer:
        assert answer.status == 400, "which of two keys would it be?"
