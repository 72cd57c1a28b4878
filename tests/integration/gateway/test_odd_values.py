"""What is well formed and still can not be meant: tampered names, absurd tokens, odd preferences, bulks, and money (S22)."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

import aiohttp
import orjson
import pytest

from schemas.common import tokens
from tests.integration.gateway.test_keys import Book
from tests.integration.gateway.world import World, payment, transfer
from tests.kit.api import Caller
from tests.kit.soak import Printed

_NDJSON: Final = {"Content-Type": "application/x-ndjson"}
MOST: Final = 10**38 - 1


async def test_a_tampered_operation_id_is_absent(world: World, http: aiohttp.ClientSession) -> None:
    caller = world.ours.caller(http, world.platform.url)
    real = world.ours.ids["operation_id"]
    assert (await caller.get(f"/v1/operations/{real}")).status == 200
    service, shard, command, digest, mac = real.split(".")
    flipped = ("A" if mac[0] != "A" else "B") + mac[1:]
    spare = mac[:-1] + chr(ord(mac[-1]) + 1)
    other = ("0" if digest[0] != "0" else "1") + digest[1:]
    whole, mine = f"{service}.{shard}.{command}.{digest}", f"{command}.{digest}.{mac}"
    for fake in (
        f"{whole}.{flipped}", f"{whole}.{spare}", f"{whole}.{mac[:-1]}", f"{whole}.", whole, f"ledger.{shard}.{mine}", f"auth.{shard}.{mine}",
        f"{service}.{shard}.{command}.{other}.{mac}", f"{service}.{shard}.{command}.{mac}", f"{service}.{shard}.{command}..{mac}",
        f"{service}.{shard}.{command}.{digest.upper()}.{mac}", f"{service}.{shard}.{command}.{digest[:-1]}.{mac}",
        f"{service}.{(int(shard) + 1) % 8}.{mine}", f"{service}.0{shard}.{mine}", f"{service}.-1.{mine}",
        f"{service}.{shard}.{mine.upper()}", f"{service}.{shard}.{command[:-1]}0.{digest}.{mac}", f"{real}.{mac}", f"{real}%00", f"{real}%20",
        f"..%2f{real}", world.theirs.ids["operation_id"], "x" * 4000,
    ):  # fmt: skip
        if fake == real:
            continue
        for path in (f"/v1/operations/{fake}", f"/v1/operations/{fake}/events"):
            answer = await caller.get(path)
            assert (answer.status, answer.problem) == (404, "not-found"), (path, answer)


async def test_a_cursor_belongs_to_its_list(world: World, http: aiohttp.ClientSession) -> None:
    caller = world.ours.caller(http, world.platform.url)
    book = f"/v1/ledgers/{world.ours.ids['ledger_id']}"
    lists = {
        "transactions": f"{book}/transactions",
        "accounts": f"{book}/accounts",
        "entries": f"{book}/accounts/{world.ours.accounts['alice']}/entries",
        "payments": "/v1/payments",
        "search": "/v1/search",
        "clients": "/v1/clients",
    }
    for _ in range(3):
        await caller.post(
            f"{book}/transactions", {"entries": transfer(*list(world.ours.accounts.values())[:2], 1)}
        )
        await caller.client(["search:read"])
    cursors = {name: await _cursor(caller, path) for name, path in lists.items()}
    for name, path in lists.items():
        rest = await caller.get(f"{path}?limit=1&cursor={cursors[name]}")
        first = await caller.get(f"{path}?limit=1")
        assert rest.status == 200
        assert rest.json()["items"] != first.json()["items"], f"{name} stands still"
        for other, cursor in cursors.items():
            answer = await caller.get(f"{path}?cursor={cursor}")
            assert answer.status in (200, 400), (name, other, answer)
        for tampered in _tampered(cursors[name]):
            answer = await caller.get(f"{path}?cursor={tampered}")
            assert answer.status in (200, 400), (name, tampered, answer)
            if answer.status == 400:
                assert (answer.problem, answer.json()["pointer"]) == ("invalid-parameter", "?cursor"), answer


async def _cursor(caller: Caller, path: str) -> str:
    """The cursor of the first page, once there are two."""
    for _ in range(100):
        found = (await caller.get(f"{path}?limit=1")).json()
        if found["items"] and found["next_cursor"]:
            cursor: str = found["next_cursor"]
            return cursor
        await asyncio.sleep(0.2)
    raise AssertionError(path)


def _tampered(cursor: str) -> list[str]:
    out = [cursor[:-1], cursor + "A", cursor[::-1], cursor.upper(), "A" * len(cursor)]
    values: tuple[Any, ...] = (
        [], [1], [None, None], [1, 2, 3], [2**63, 2**63], [-(2**63) - 1, 0], [2**200, "x"], [1.5, 1.5], [True, False], ["a", "b"], [[1], [2]],
        [{}, {}], "x", 1, {}, None, ["' OR 1=1 --", "x"], ["\0", "\0"], [0, "00000000-0000-8000-8000-000000000000"], [10**18, "z"], ["now", "now"],
    )  # fmt: skip
    return out + [urlsafe_b64encode(json.dumps(v).encode()).rstrip(b"=").decode() for v in values]


async def test_consistency_tokens_that_lie_or_are_none(world: World, http: aiohttp.ClientSession) -> None:
    caller = world.ours.caller(http, world.platform.url)
    real = (await caller.post("/v1/ledgers", {"name": "x"})).headers["consistency-token"]
    assert tokens.decode(real)
    full = tokens.encode({f"s{n}/{n}": 1 for n in range(tokens.MAX_ENTRIES)})
    raw = urlsafe_b64decode(real + "=" * (-len(real) % 4))
    bad = [
        "?", "A", real[:-3], raw.decode(), urlsafe_b64encode(b"[]").decode(), urlsafe_b64encode(raw.replace(b":", b":-")).decode(),
        urlsafe_b64encode(b'{"ledger/0":1e9}').decode(), urlsafe_b64encode(b'{"ledger/0":9223372036854775808}').decode(),
        urlsafe_b64encode(b'{"../../x/0":1}').decode(), urlsafe_b64encode(b'{"a\\u0000/0":1}').decode(), "A" * 20_000,
    ]  # fmt: skip
    for token in bad:
        for method, path, body in (("GET", "/v1/ledgers", None), ("POST", "/v1/ledgers", {"name": "x"})):
            answer = await caller.call(method, path, body, headers={"Consistency-Token": token})
            assert (answer.status, answer.problem) == (400, "invalid-consistency-token"), (token, answer)
            assert answer.json()["pointer"] == "Consistency-Token"
    for service, path in (
        ("ledger", "/v1/ledgers"), ("payments", "/v1/payments"), ("payments", "/v1/search?q=x"), ("auth", "/v1/clients"),
        ("compliance", "/v1/compliance/cases"), ("ledger", f"/v1/ledgers/{world.ours.ids['ledger_id']}/trial-balance"),
    ):  # fmt: skip
        for position in (2**62, 2**40):  # waited for, these would be 503 after seconds
            forged = tokens.encode({f"{service}/0": position})
            answer = await caller.call("GET", path, headers={"Consistency-Token": forged}, tries=1)
            assert (answer.status, answer.problem) == (400, "invalid-consistency-token"), (path, answer)
            assert answer.json()["pointer"] == "Consistency-Token"
            assert f"position {position} of {service}/0" in answer.json()["detail"]
    seen = await caller.get("/v1/ledgers?limit=200", consistency_token=real)
    before = len(seen.json()["items"])
    refused = await caller.post("/v1/ledgers", {"name": "no room"}, headers={"Consistency-Token": full})
    assert (refused.status, refused.problem) == (400, "invalid-consistency-token"), (
        "no room for the answer's own position"
    )
    several = await caller.post(
        "/v1/ledgers", {"name": "x"}, headers={"Consistency-Token": f"{real}, {real}"}
    )
    assert several.status == 201
    lines = [
        ("Authorization", f"Bearer {world.ours.token}"),
        ("Consistency-Token", real),
        ("Consistency-Token", "?"),
    ]
    async with http.get(f"{world.platform.url}/v1/ledgers", headers=lines) as answer:
        assert answer.status == 400, "lines of one header are one list"
    elsewhere = tokens.encode({"nobody/1023": 5, "ledger/999": 1})
    assert (await caller.get("/v1/ledgers", consistency_token=elsewhere)).status == 200
    after = await caller.get("/v1/ledgers?limit=200", consistency_token=several.headers["consistency-token"])
    assert len(after.json()["items"]) == min(before + 1, 200)


@pytest.mark.parametrize(
    ("prefer", "status"),
    [
        ("wait=20", 201), ("wait=20, respond-async", 201), ('wait="20"', 201), ("Wait = 20", 201), ("foo;wait=20", 201), ("wait=999999", 201),
        ("wait=", 202), ("wait=-5", 202), ("wait=0", 202), ("wait=1e9", 202), ("wait=99999999999", 202), ("wait=nan", 202), ("waiting=5", 202),
        ("", 202), ("respond-async", 202), ("x" * 8000, 202), ("wait=\u00b2", 202), (",,,;;;", 202),
    ],
)  # fmt: skip
async def test_odd_preferences_are_no_reason_to_refuse(
    world: World, http: aiohttp.ClientSession, prefer: str, status: int
) -> None:
    caller = world.ours.caller(http, world.platform.url)
    answer = await caller.post("/v1/ledgers", {"name": "x"}, wait_s=None, headers={"Prefer": prefer})
    assert answer.status == status, answer
    assert ("preference-applied" in answer.headers) == (status == 201)


async def test_a_bulk_answers_for_each_line_and_good_lines_are_done(
    world: World, http: aiohttp.ClientSession, printed: Printed
) -> None:
    caller = world.ours.caller(http, world.platform.url)
    book = await Book.make(caller)
    good = orjson.dumps({"entries": transfer(*book.accounts, 1)})
    half = good[: len(good) // 2]
    bad = (
        b"{", b"nonsense", b"null", b"[]", b'"x"', b"{}", good[:-1], good + b"," + good, good + good, half, good[len(half):], b"\xff\xfe", b"{\x00}",
        good.replace(b'"amount":1', b'"amount":0'), good.replace(b'"amount":1', b'"amount":NaN'), good.replace(b'"amount":1', b'"amount":1e5'),
        good.replace(b'"amount":1', b'"amount":1,"amount":2'), good.replace(b"EUR", b"USD", 1), good.replace(b"debit", b"credit"), b"[" * 5000,
    )  # fmt: skip
    lines = [line for each in bad for line in (good, each)]
    for end in (b"\n", b"\r\n", b"\n\n  \n"):
        answer = await caller.post(f"{book.path}/transactions/bulk", end.join(lines), headers=_NDJSON)
        assert answer.status == 200, answer
        results = answer.json()["results"]
        assert [r["index"] for r in results] == list(range(len(lines)))
        assert {r["status"] for r in results[0::2]} == {"accepted"}
        assert {r["status"] for r in results[1::2]} == {"rejected"}
        for result in results[1::2]:
            problem = result["problem"]
            assert problem["type"].startswith("https://nexafi.dev/problems/"), result
            assert problem["pointer"].split("/")[1] == str(result["index"]), result
        assert answer.json()["counts"] == {"accepted": len(bad), "rejected": len(bad), "pending": 0}
    assert await book.moved() == (3 * len(bad), 3 * len(bad))
    printed("bulk", lines=3 * len(lines), bad=3 * len(bad), good_done=3 * len(bad))


async def test_a_bulk_of_ten_thousand_and_the_same_again(world: World, http: aiohttp.ClientSession) -> None:
    """Equal items are many commands, since they were asked for many times; the same bulk again is none."""
    caller = world.ours.caller(http, world.platform.url)
    book = await Book.make(caller)
    items = [{"entries": transfer(*book.accounts, 1)}] * 10_000
    path = f"{book.path}/transactions/bulk"
    first = await caller.post(path, items, key="ten-thousand", wait_s=30)
    again = await caller.post(path, items, key="ten-thousand", wait_s=30)
    ids = [r["result"]["transaction_id"] for r in first.json()["results"] if r["status"] == "accepted"]
    assert first.json()["counts"] == {"accepted": 10_000, "rejected": 0, "pending": 0}
    assert len(set(ids)) == 10_000
    assert [r["result"]["transaction_id"] for r in again.json()["results"]] == ids
    changed = [*items[:-1], {"entries": transfer(*book.accounts, 2)}]
    third = (await caller.post(path, changed, key="ten-thousand", wait_s=30)).json()
    assert third["counts"] == {"accepted": 9_999, "rejected": 1, "pending": 0}
    assert third["results"][-1]["problem"]["type"].endswith("/idempotency-key-reused")
    assert await book.moved() == (10_000, 10_000)


async def test_a_bulk_over_many_shards_answers_in_the_order_of_its_items(
    world: World, http: aiohttp.ClientSession
) -> None:
    ours = world.ours
    caller = ours.caller(http, world.platform.url)
    items = [payment(ours.ids["ledger_id"], ours.accounts) | {"description": f"n{n}"} for n in range(64)]
    items[7] = items[7] | {"currency": "eur"}
    items[9] = items[9] | {"external_reference": ours.word}  # taken
    answer = await caller.post("/v1/payments/bulk", items)
    results = answer.json()["results"]
    assert answer.json()["counts"] == {"accepted": 62, "rejected": 2, "pending": 0}, answer
    assert results[7]["problem"]["pointer"] == "/7/currency"
    assert results[9]["problem"]["type"].endswith("/already-claimed")
    assert results[9]["problem"]["pointer"] == "/9/external_reference"
    operation = (await caller.get(results[9]["operation"])).json()
    assert operation["problem"]["pointer"] == "/external_reference"
    assert (
        len({s for s in tokens.decode(answer.headers["consistency-token"]) if s.startswith("payments/")}) > 3
    )
    token = answer.headers["consistency-token"]
    for n in (0, 31, 63):
        found = await caller.get(
            f"/v1/payments/{results[n]['result']['payment_id']}", consistency_token=token
        )
        assert found.json()["description"] == f"n{n}"


async def test_money_that_is_none_moves_nothing(world: World, http: aiohttp.ClientSession) -> None:
    """Negative, zero, mixed, unbalanced, over 38 digits, and sums that would pass 38 digits."""
    caller = world.ours.caller(http, world.platform.url)
    book = await Book.make(caller)
    dollars = await caller.make(f"{book.path}/accounts", {"code": "usd", "currency": "USD"}, "account_id")
    cash, account = book.accounts
    legs: dict[str, list[dict[str, Any]]] = {
        "negative": transfer(cash, account, -5),
        "zero": transfer(cash, account, 0),
        "39 digits": transfer(cash, account, MOST + 1),
        "two currencies": [transfer(cash, account, 5)[0], transfer(cash, dollars, 5, "USD")[1]],
        "the account's is another": transfer(cash, dollars, 5),
        "the account's is another, both": transfer(cash, account, 5, "USD"),
        "unbalanced": [transfer(cash, account, 5)[0], transfer(cash, account, 6)[1]],
        "one side only": [transfer(cash, account, 5)[0]] * 2,
        "no such currency": transfer(cash, account, 5, "XXQ"),
        "a currency in small letters": transfer(cash, account, 5, "eur"),
        "balanced across currencies": [
            *transfer(cash, account, 5)[:1],
            *transfer(dollars, dollars, 5, "USD")[1:],
        ],
        "a sum over 38 digits": [*transfer(cash, account, MOST), *transfer(cash, account, MOST)],
    }
    for name, entries in legs.items():
        one = await caller.post(f"{book.path}/transactions", {"entries": entries})
        assert one.status in (409, 422), (name, one)
        assert one.json()["pointer"].startswith("/entries"), (name, one)
        batch = await caller.post(f"{book.path}/transaction-batches", {"transactions": [{"entries": transfer(cash, account, 1)}, {"entries": entries}]})  # fmt: skip
        assert batch.status in (409, 422), (name, batch)
    for amount in (-1, 0, MOST + 1):
        body = payment(world.ours.ids["ledger_id"], world.ours.accounts) | {"amount": amount}
        assert (await caller.post("/v1/payments", body)).status == 422
        refund = await caller.post(f"/v1/payments/{world.ours.ids['payment_id']}/refunds", {"amount": amount})
        assert refund.status == 422
    assert await book.moved() == (0, 0), "nothing of a refused batch may be left"


async def test_a_balance_never_passes_38_digits(world: World, http: aiohttp.ClientSession) -> None:
    caller = world.ours.caller(http, world.platform.url)
    book = await Book.make(caller)
    assert (await book.move(MOST - 1, "most")).status == 201
    over = await book.move(2, "over")
    assert over.status in (409, 422), over
    path = f"{book.path}/accounts/{book.accounts[1]}"
    read = await caller.get(
        path, consistency_token=(await book.move(1, "exactly")).headers["consistency-token"]
    )
    assert b'"posted_credit":' + str(MOST).encode() in read.body.replace(b" ", b""), (
        "every digit, as an integer"
    )
