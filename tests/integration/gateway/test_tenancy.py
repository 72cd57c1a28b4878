"""S1: no object of another tenant can be reached or told to exist.

Every answer about another tenant's object is compared with the answer about one that never was: same status, same
headers, same body once the ids that were sent are taken out.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import aiohttp
import orjson

from schemas.common import tokens
from tests.integration.gateway.operations import BODIES, Operation, like, operations
from tests.integration.gateway.world import SCOPE_SETS, TERMINAL, Estate, World, payment, payment_at
from tests.kit.api import Answer, Caller
from tests.kit.soak import Printed

_NAMES: Final = re.compile(
    rb"[a-z-]+\.\d+\.[0-9a-f-]{36}(?:\.[0-9a-f]{16})?\.[\w-]{22}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}"
)
#: What differs between any two answers, and says nothing about what is there.
_VOLATILE: Final = frozenset({"date", "content-length"})


def seen(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """What a caller can tell about an answer, with ids and positions taken out."""
    headers = {name: value for name, value in answer.headers.items() if name not in _VOLATILE}
    if token := headers.pop("consistency-token", ""):
        headers["sources"] = ",".join(sorted(tokens.decode(token)))
    headers = {name: _NAMES.sub(b"-", value.encode()).decode() for name, value in headers.items()}
    return answer.status, headers, _NAMES.sub(b"-", answer.body)


def mixtures(operation: Operation, ours: Estate, theirs: Estate) -> Iterator[tuple[dict[str, str], ...]]:
    """Ids for the path where some are theirs, beside the same where those are nobody's."""
    names = operation.parameters
    for count in range(1, len(names) + 1):
        for foreign in itertools.combinations(names, count):
            ids = dict(ours.ids)
            yield (
                ids | {name: theirs.ids[name] for name in foreign},
                ids | {name: like(theirs.ids[name]) for name in foreign},
            )


def assert_tells_nothing(answer: Answer, theirs: Estate) -> None:
    """No word, name or id of theirs stands in the answer, but ids that we put into payments of our own."""
    sent = {theirs.ids["ledger_id"], *theirs.accounts.values()}
    for secret in {theirs.word, theirs.tenant, *theirs.ids.values()} - sent:
        assert secret.encode() not in answer.body, (secret, answer.body)


async def _read_all(world: World, estate: Estate, http: aiohttp.ClientSession) -> dict[str, Any]:
    owner = estate.caller(http, world.platform.url)
    reads = [o for o in operations() if not o.is_command and not o.template.startswith("/v1/events")]
    out = {}
    for operation in reads:
        if operation.template.endswith("/events"):
            continue  # a stream
        answer = await owner.get(operation.path(estate.ids))
        assert answer.status == 200, (operation.name, answer)
        out[operation.name] = answer.json()
    return out


async def test_another_tenants_object_is_as_absent_as_one_that_never_was(
    world: World, http: aiohttp.ClientSession, printed: Printed
) -> None:
    ours, theirs, base = world.ours, world.theirs, world.platform.url
    before = await _read_all(world, theirs, http)
    slots, calls = asyncio.Semaphore(12), 0

    async def ask(operation: Operation, caller: Caller, ids: Mapping[str, str]) -> Answer:
        nonlocal calls
        body = BODIES[operation.name](ours) if operation.is_command else None
        async with slots:
            calls += 1
            return await caller.call(operation.method, operation.path(ids), body)

    async def compare(operation: Operation, name: str, pair: tuple[dict[str, str], ...]) -> str | None:
        caller = ours.caller(http, base, name)
        foreign, absent = await asyncio.gather(*(ask(operation, caller, ids) for ids in pair))
        assert_tells_nothing(foreign, theirs)
        if operation.is_bulk and foreign.status == 200:
            assert foreign.json()["counts"]["accepted"] == 0, foreign
        elif foreign.status not in (403, 404):
            return f"{operation.name} with {name}: {foreign.status}"
        return None if seen(foreign) == seen(absent) else f"{operation.name}: {seen(foreign)} {seen(absent)}"

    walk = [
        compare(operation, name, pair)
        for operation in operations()
        for pair in mixtures(operation, ours, theirs)
        for name in SCOPE_SETS
        if "all but" not in name
    ]
    leaks = [leak for leak in await asyncio.gather(*walk) if leak]
    assert leaks == []
    assert await _read_all(world, theirs, http) == before, "something of theirs changed"
    printed("S1", operations=len(operations()), tenants=2, calls=calls, leaks=0)


def _leaves(value: Any, ids: set[str], at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, ids, (*at, name))
    elif value in ids:
        yield at, value


def _with(value: Any, at: tuple[Any, ...], new: str) -> Any:
    out = copy.deepcopy(value)
    inner = out
    for step in at[:-1]:
        inner = inner[step]
    inner[at[-1]] = new
    return out


async def test_another_tenants_id_inside_a_body_is_as_absent_as_any(
    world: World, http: aiohttp.ClientSession
) -> None:
    ours, theirs = world.ours, world.theirs
    caller = ours.caller(http, world.platform.url)
    known = {*ours.ids.values(), *ours.accounts.values()}
    checked = 0
    for operation in operations():
        if not operation.is_command or operation.template.startswith("/v1/payments"):
            continue  # payments are judged by their end, below
        body = BODIES[operation.name](ours)
        for at, _ in list(_leaves(body, known)):
            foreign_id = theirs.accounts["bob"] if "account" in str(at) else theirs.ids[str(at[-1])]
            path = operation.path(ours.ids)
            foreign = await caller.post(path, _with(body, at, foreign_id))
            absent = await caller.post(path, _with(body, at, like(foreign_id)))
            assert seen(foreign) == seen(absent), operation.name
            assert foreign.status == 404 or foreign.json()["counts"]["accepted"] == 0, foreign
            checked += 1
    assert checked >= 8


async def test_a_payment_over_another_tenants_accounts_ends_like_one_over_accounts_that_are_not_there(
    world: World, http: aiohttp.ClientSession
) -> None:
    ours, theirs = world.ours, world.theirs
    caller = ours.caller(http, world.platform.url)
    body = payment(ours.ids["ledger_id"], ours.accounts)
    foreign = {
        ("ledger_id",): theirs.ids["ledger_id"],
        ("payer", "account_id"): theirs.accounts["alice"],
        ("payee", "account_id"): theirs.accounts["bob"],
    }

    async def end(at: tuple[str, ...], identifier: str) -> dict[str, Any]:
        made = await caller.post("/v1/payments", _with(body, at, identifier))
        if made.status == 422:  # the id says that it lies on another shard: no need to ask anyone
            return {"status": "refused", "timeline": [made.json() | {"operation": "", "instance": ""}]}
        found = await payment_at(caller, made.result["payment_id"], TERMINAL)
        steps = [{n: v for n, v in step.items() if n not in ("at", "hold_id")} for step in found["timeline"]]
        return {"status": found["status"], "timeline": steps}

    for at, identifier in foreign.items():
        theirs_ended, nobodys_ended = await asyncio.gather(end(at, identifier), end(at, like(identifier)))
        plain = [_NAMES.sub(b"-", orjson.dumps(e)) for e in (theirs_ended, nobodys_ended)]
        assert theirs_ended["status"] not in ("settled", "posted"), theirs_ended
        assert plain[0] == plain[1], at


async def test_lists_filters_and_search_find_nothing_of_another_tenant(
    world: World, http: aiohttp.ClientSession
) -> None:
    ours, theirs = world.ours, world.theirs
    caller, other = (e.caller(http, world.platform.url) for e in (ours, theirs))
    asked = {
        "ledger_id": theirs.ids["ledger_id"],
        "account_id": theirs.accounts["alice"],
        "payment_id": theirs.ids["payment_id"],
        "code": f"{theirs.word}-alice",
        "reference": theirs.word,
        "external_reference": theirs.word,
        "q": theirs.word,
    }
    for operation in operations():
        if operation.is_command or "/events" in operation.template:
            continue
        assert_tells_nothing(await caller.get(operation.path(ours.ids)), theirs)
        for name in sorted(asked.keys() & set(operation.query)):
            found = await caller.get(f"{operation.path(ours.ids)}?{name}={asked[name]}")
            assert (found.status, found.json()["items"]) == (200, []), (operation.name, name)
        if "cursor" in operation.query:
            page = await other.get(f"{operation.path(theirs.ids)}?limit=1")
            if cursor := page.json()["next_cursor"]:
                answer = await caller.get(f"{operation.path(ours.ids)}?cursor={cursor}")
                assert answer.status == 200
                assert_tells_nothing(answer, theirs)


async def test_what_is_unique_is_unique_for_each_tenant_and_keys_are_the_callers_own(
    world: World, http: aiohttp.ClientSession
) -> None:
    """A claim or an idempotency key of one tenant neither blocks nor answers another."""
    ours, theirs = world.ours, world.theirs
    caller, other = (e.caller(http, world.platform.url) for e in (ours, theirs))
    body = payment(ours.ids["ledger_id"], ours.accounts) | {"external_reference": theirs.word}
    assert (await caller.post("/v1/payments", body)).status == 201
    first = await caller.post("/v1/ledgers", {"name": "mine"}, key="the same key")
    assert first.problem == "idempotency-key-invalid"
    first = await caller.post("/v1/ledgers", {"name": "mine"}, key="the-same-key")
    second = await other.post("/v1/ledgers", {"name": "theirs"}, key="the-same-key")
    assert first.result["ledger_id"] != second.result["ledger_id"]
    third = await ours.caller(http, world.platform.url, "ledger:write").post(
        "/v1/ledgers", {"name": "another principal's"}, key="the-same-key"
    )
    assert third.result["ledger_id"] not in (first.result["ledger_id"], second.result["ledger_id"])


async def test_the_headers_of_internal_requests_mean_nothing_at_the_gateway(
    world: World, http: aiohttp.ClientSession
) -> None:
    from nexafi import internal_auth

    caller = world.ours.caller(http, world.platform.url)
    signed = internal_auth.InternalAuth.of(world.platform.settings).sign(
        world.theirs.tenant, "system:gateway", "/v1/ledgers"
    )
    dressed = await caller.call("GET", "/v1/ledgers", headers=signed | {"X-Tenant": world.theirs.tenant})
    assert {ledger["tenant"] for ledger in dressed.json()["items"]} == {world.ours.tenant}
    alone = Caller(http, world.platform.url, "none")
    assert (await alone.call("GET", "/v1/ledgers", headers=signed)).status == 401
    for path in ("/internal/v1/ledgers", "/internal/results/x", "/%69nternal/heads", "//internal/heads"):
        assert (await caller.get(path)).status in (401, 404), path
