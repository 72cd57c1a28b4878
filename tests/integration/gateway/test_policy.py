"""S2: no function without its permission. Every operation, called with every set of scopes, against one table."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp
import pytest

from schemas.common.scopes import SCOPES
from tests.integration.gateway.operations import BODIES, Operation, like, operations
from tests.integration.gateway.world import SCOPE_SETS, World
from tests.kit.api import Answer, Caller
from tests.kit.soak import Printed

#: Any principal may; what it sees is its tenant's.
ANYONE: Final = ""
#: Operation -> the one scope that it needs. The only place, besides the gateway's own tables, that says so.
POLICY: Final[dict[str, str]] = {
    "POST /v1/ledgers": "ledger:write",
    "GET /v1/ledgers": "ledger:read",
    "GET /v1/ledgers/{ledger_id}": "ledger:read",
    "GET /v1/ledgers/{ledger_id}/trial-balance": "ledger:read",
    "GET /v1/ledgers/{ledger_id}/balance-sheet": "ledger:read",
    "GET /v1/ledgers/{ledger_id}/income-statement": "ledger:read",
    "GET /v1/ledgers/{ledger_id}/exposure": "ledger:read",
    "POST /v1/ledgers/{ledger_id}/assets": "ledger:write",
    "GET /v1/ledgers/{ledger_id}/assets": "ledger:read",
    "POST /v1/ledgers/{ledger_id}/rates": "ledger:write",
    "GET /v1/ledgers/{ledger_id}/rates": "ledger:read",
    "POST /v1/ledgers/{ledger_id}/conversions": "ledger:write",
    "GET /v1/ledgers/{ledger_id}/conversions": "ledger:read",
    "POST /v1/ledgers/{ledger_id}/revaluations": "ledger:write",
    "GET /v1/ledgers/{ledger_id}/revaluations": "ledger:read",
    "GET /v1/currencies": "ledger:read",
    "POST /v1/ledgers/{ledger_id}/periods/close": "ledger:close",
    "POST /v1/ledgers/{ledger_id}/periods/reopen": "ledger:close",
    "GET /v1/ledgers/{ledger_id}/periods": "ledger:read",
    "POST /v1/ledgers/{ledger_id}/adjustments": "ledger:adjust",
    "GET /v1/ledgers/{ledger_id}/adjustments": "ledger:read",
    "GET /v1/ledgers/{ledger_id}/restatement": "ledger:read",
    "POST /v1/ledgers/{ledger_id}/templates": "ledger:write",
    "GET /v1/ledgers/{ledger_id}/templates": "ledger:read",
    "POST /v1/ledgers/{ledger_id}/templates/apply": "ledger:write",
    "POST /v1/ledgers/{ledger_id}/templates/apply/bulk": "ledger:write",
    "POST /v1/ledgers/{ledger_id}/chart": "ledger:write",
    "GET /v1/ledgers/{ledger_id}/chart": "ledger:read",
    "GET /v1/chart-templates": "ledger:read",
    "POST /v1/ledgers/{ledger_id}/accounts": "ledger:write",
    "GET /v1/ledgers/{ledger_id}/accounts": "ledger:read",
    "GET /v1/ledgers/{ledger_id}/accounts/{account_id}": "ledger:read",
    "GET /v1/ledgers/{ledger_id}/accounts/{account_id}/entries": "ledger:read",
    "PATCH /v1/ledgers/{ledger_id}/accounts/{account_id}/metadata": "ledger:write",
    "PATCH /v1/ledgers/{ledger_id}/accounts/{account_id}/limits": "ledger:write",
    "POST /v1/ledgers/{ledger_id}/accounts/{account_id}/close": "ledger:write",
    "POST /v1/ledgers/{ledger_id}/transactions": "ledger:write",
    "POST /v1/ledgers/{ledger_id}/transactions/bulk": "ledger:write",
    "POST /v1/ledgers/{ledger_id}/transactions/{transaction_id}/reverse": "ledger:write",
    "POST /v1/ledgers/{ledger_id}/transaction-batches": "ledger:write",
    "GET /v1/ledgers/{ledger_id}/transactions": "ledger:read",
    "GET /v1/ledgers/{ledger_id}/transactions/{transaction_id}": "ledger:read",
    "POST /v1/ledgers/{ledger_id}/holds": "ledger:write",
    "POST /v1/ledgers/{ledger_id}/holds/bulk": "ledger:write",
    "POST /v1/ledgers/{ledger_id}/holds/{hold_id}/post": "ledger:write",
    "POST /v1/ledgers/{ledger_id}/holds/{hold_id}/void": "ledger:write",
    "GET /v1/ledgers/{ledger_id}/holds": "ledger:read",
    "GET /v1/ledgers/{ledger_id}/holds/{hold_id}": "ledger:read",
    "POST /v1/payments": "payments:write",
    "POST /v1/payments/bulk": "payments:write",
    "POST /v1/payments/{payment_id}/cancel": "payments:write",
    "POST /v1/payments/{payment_id}/refunds": "payments:write",
    "GET /v1/payments": "payments:read",
    "GET /v1/payments/{payment_id}": "payments:read",
    "GET /v1/compliance/cases": "compliance:read",
    "GET /v1/compliance/cases/{case_id}": "compliance:read",
    "POST /v1/compliance/cases/{case_id}/decision": "compliance:decide",
    "GET /v1/compliance/hits": "compliance:read",
    "GET /v1/compliance/screenings": "compliance:read",
    "GET /v1/compliance/screenings/{screening_id}": "compliance:read",
    "GET /v1/search": "search:read",
    "POST /v1/clients": "auth:admin",
    "GET /v1/clients": "auth:admin",
    "GET /v1/clients/{client_id}": "auth:admin",
    "DELETE /v1/clients/{client_id}": "auth:admin",
    "POST /v1/api-keys": "auth:admin",
    "GET /v1/api-keys": "auth:admin",
    "GET /v1/api-keys/{key_id}": "auth:admin",
    "DELETE /v1/api-keys/{key_id}": "auth:admin",
    "GET /v1/operations": "events:read",
    "GET /v1/operations/{operation_id}": ANYONE,
    "GET /v1/operations/{operation_id}/events": "events:read",
    "GET /v1/events": "events:read",
}
#: Operation -> one of these is needed as well: what the stream is of.
ONE_OF: Final[dict[str, tuple[str, ...]]] = {
    "GET /v1/events": ("ledger:read", "payments:read", "compliance:read"),
}


def may(scopes: frozenset[str], name: str) -> bool:
    """What the table means for an operation: the scope itself or the wildcard of its area."""

    def has(needed: str) -> bool:
        return needed == ANYONE or bool(scopes & {needed, f"{needed.partition(':')[0]}:*"})

    return has(POLICY[name]) and any(map(has, ONE_OF.get(name, (ANYONE,))))


def test_every_operation_has_a_line_in_the_policy() -> None:
    assert {operation.name for operation in operations()} == set(POLICY)
    assert {o.name for o in operations() if o.is_command} == set(BODIES)
    assert set(POLICY.values()) - {ANYONE} <= set(SCOPES)


async def _call(world: World, caller: Caller, operation: Operation) -> Answer:
    """Called with a body that no command takes, about things that are not there: allowed or not, nothing happens."""
    ids = {name: like(value) for name, value in world.ours.ids.items()}
    return await caller.call(operation.method, operation.path(ids), {"nothing": "of"}, wait_s=5)


def _judged(answer: Answer, scopes: frozenset[str], name: str) -> bool:
    if may(scopes, name):
        return answer.status not in (401, 403) and answer.status < 500
    told = name in ONE_OF or f'scope="{POLICY[name]}"' in answer.headers.get("www-authenticate", "")
    return (answer.status, answer.problem) == (403, "forbidden") and told


async def test_every_operation_obeys_the_policy_for_every_set_of_scopes(
    world: World, http: aiohttp.ClientSession, printed: Printed
) -> None:
    base, slots = world.platform.url, asyncio.Semaphore(12)

    async def check(operation: Operation, name: str) -> str | None:
        async with slots:
            answer = await _call(world, world.ours.caller(http, base, name), operation)
        ok = _judged(answer, SCOPE_SETS[name], operation.name)
        return None if ok else f"{operation.name} with {name}: {answer.status} {answer.body[:200]!r}"

    pairs = [(o, name) for o in operations() for name in SCOPE_SETS]
    wrong = [w for w in await asyncio.gather(*(check(*pair) for pair in pairs)) if w]
    assert wrong == []
    printed("S2", operations=len(operations()), scope_sets=len(SCOPE_SETS), calls=len(pairs), mismatches=0)


async def test_an_access_token_may_do_what_it_was_narrowed_to_and_no_more(
    world: World, http: aiohttp.ClientSession
) -> None:
    owner = world.ours.caller(http, world.platform.url)
    client = await owner.client(SCOPES)
    for scope in ("ledger:read", "payments:write", "auth:admin"):
        narrowed = await owner.with_token(*client, scope)
        for operation in operations():
            answer = await _call(world, narrowed, operation)
            assert _judged(answer, frozenset({scope}), operation.name), (operation.name, scope, answer)


async def test_nobody_gets_in_without_a_principal(world: World, http: aiohttp.ClientSession) -> None:
    nobody = Caller(http, world.platform.url, "")
    for operation in operations():
        path = operation.path(world.ours.ids)
        for headers in ({"Authorization": ""}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer "}):
            answer = await nobody.call(operation.method, path, {}, headers=headers)
            assert (answer.status, answer.problem) == (401, "unauthenticated"), (operation.name, answer)
            assert "Bearer" in answer.headers["www-authenticate"]


@pytest.mark.parametrize("asked", [["ledger:*"], ["auth:admin", "compliance:decide"], ["auth:*"]])
async def test_nobody_grants_what_he_does_not_have(
    world: World, http: aiohttp.ClientSession, asked: list[str]
) -> None:
    admin = world.ours.caller(http, world.platform.url, "auth:admin")
    for path in ("/v1/clients", "/v1/api-keys"):
        answer = await admin.post(path, {"name": "more", "scopes": asked})
        assert (answer.status, answer.problem) == (403, "forbidden"), answer
        assert answer.json()["pointer"].startswith("/scopes/")
    listed = await world.ours.caller(http, world.platform.url).get("/v1/clients?limit=200")
    assert "more" not in {client["name"] for client in listed.json()["items"]}
