"""S3: no mass assignment. What only the platform may say is injected into every object of every body."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from typing import Any, Final

import aiohttp

from tests.integration.gateway.operations import BODIES, Operation, operations
from tests.integration.gateway.world import World, payment, payment_at
from tests.kit.soak import Printed

#: Field -> a value that somebody might want it to have. Contracts, events, rows and envelopes use these names.
INJECTED: Final[dict[str, Any]] = {
    "tenant": "theirs",
    "actor": "system:gateway",
    "principal": "key:root",
    "role": "admin",
    "roles": ["admin"],
    "is_admin": True,
    "scopes": ["auth:*", "ledger:*"],
    "status": "settled",
    "state": "settled",
    "outcome": "accepted",
    "decision": "allow",
    "balance": 10**9,
    "posted_debit": 0,
    "available": 10**9,
    "score_bp": 0,
    "risk": "low",
    "id": "00000000-0000-8000-8000-000000000000",
    "command_id": "00000000-0000-5000-8000-000000000000",
    "owner": "theirs",
    "created_at": "1970-01-01T00:00:00Z",
    "recorded_at": 0,
    "position": 1,
    "shard": 0,
    "version": 1,
    "saga_id": "00000000-0000-8000-8000-000000000000",
    "secret_hash": "0" * 64,
    "key_hash": "0" * 64,
    "prefix": "nfk_",
    "hash": "0" * 64,
    "live": True,
    "__proto__": {"role": "admin"},
    "model_config": {"extra": "allow"},
    "wrap": {},
}
#: Fields that a caller may say in this place: (operation, path of the object) -> names.
OWN: Final[dict[tuple[str, str], set[str]]] = {
    ("POST /v1/clients", ""): {"scopes"},
    ("POST /v1/api-keys", ""): {"scopes"},
    ("POST /v1/compliance/cases/{case_id}/decision", ""): {"decision"},
    ("POST /v1/ledgers/{ledger_id}/templates/apply", ""): {"version"},
    ("POST /v1/ledgers/{ledger_id}/templates/apply/bulk", "/0"): {"version"},
}
#: Maps of a caller's own: any name may stand there. In metadata none means anything; among the variables of a
#: template the ledger refuses every name that the template does not declare.
FREE: Final = frozenset({"metadata", "accounts", "amounts"})


def objects(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the objects of a body are."""
    if isinstance(value, dict):
        yield at
        for name, inner in value.items():
            if name not in FREE:
                yield from objects(inner, (*at, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from objects(inner, (*at, index))


def injected(body: Any, at: tuple[str | int, ...], name: str, value: Any) -> Any:
    """The body with one field more in the object at ``at``."""
    out = copy.deepcopy(body)
    inner = out
    for step in at:
        inner = inner[step]
    inner[name] = value
    return out


def rich(operation: Operation, body: Any) -> Any:
    """The body with every optional part that is an object."""
    if operation.name.endswith("/transactions"):
        for entry in body["entries"]:
            entry["condition"] = {"balance": "posted", "at_least": -(10**12)}
    return body


async def test_a_field_of_the_platforms_own_is_refused_wherever_it_stands(
    world: World, http: aiohttp.ClientSession, printed: Printed
) -> None:
    caller, slots, sent = world.ours.caller(http, world.platform.url), asyncio.Semaphore(16), 0

    async def check(operation: Operation, body: Any, at: tuple[str | int, ...], name: str) -> str | None:
        nonlocal sent
        pointer = "".join(f"/{step}" for step in (*at, name))
        async with slots:
            sent += 1
            evil = injected(body, at, name, INJECTED[name])
            answer = await caller.call(operation.method, operation.path(world.ours.ids), evil)
        if operation.is_bulk and answer.status == 200:
            (item,) = answer.json()["results"]
            ok, found = item["status"] == "rejected", item["problem"]
        else:
            ok, found = answer.problem == "validation-failed", answer.json()
        if ok and answer.status in (200, 422) and found.get("pointer") == pointer:
            return None
        return f"{operation.name} {pointer}: {answer.status} {answer.body[:300]!r}"

    checks = []
    for operation in operations():
        if not operation.is_command:
            continue
        body = rich(operation, BODIES[operation.name](world.ours))
        for at in objects(body):
            own = OWN.get((operation.name, "".join(f"/{step}" for step in at)), set())
            checks += [check(operation, body, at, name) for name in INJECTED if name not in own]
    wrong = [w for w in await asyncio.gather(*checks) if w]
    assert wrong == []
    printed("S3", injections=sent, changed=0)


async def test_what_is_said_outside_of_the_body_changes_nothing(
    world: World, http: aiohttp.ClientSession
) -> None:
    """In the query, in headers, in metadata: without effect."""
    ours = world.ours
    caller = ours.caller(http, world.platform.url)
    words = {name: str(value)[:64] for name, value in INJECTED.items() if not name.startswith("_")}
    headers = {f"X-{name.replace('_', '-')}": value for name, value in words.items()}
    headers |= {
        "X-Forwarded-For": "127.0.0.1",
        "X-Original-URL": "/v1/clients",
        "X-HTTP-Method-Override": "GET",
    }
    headers |= {"Ce-Tenant": world.theirs.tenant, "Ce-Actor": "system:gateway", "Ce-Sagaid": "x"}
    body = payment(ours.ids["ledger_id"], ours.accounts) | {"metadata": dict(list(words.items())[:30])}
    made = await caller.post("/v1/payments?tenant=theirs&status=settled", body, headers=headers)
    found = await payment_at(caller, made.result["payment_id"], frozenset({"settled"}))
    assert found["tenant"] == ours.tenant
    assert found["payment_id"] == made.result["payment_id"] != INJECTED["id"]
    assert found["timeline"][0]["event"] == "payment-initiated"
    assert found["timeline"][0]["actor"].startswith("key:")
    assert found["created_at"] > "2020"
    other = world.theirs.caller(http, world.platform.url)
    assert (await other.get(f"/v1/payments/{made.result['payment_id']}")).status == 404


async def test_a_key_can_not_be_given_a_secret_or_a_life_of_the_callers_choice(
    world: World, http: aiohttp.ClientSession
) -> None:
    caller = world.ours.caller(http, world.platform.url)
    for extra in ({"key_hash": "0" * 64}, {"prefix": "nfk_mine"}, {"key_id": world.theirs.ids["key_id"]}):
        answer = await caller.post("/v1/api-keys", {"name": "k", "scopes": ["search:read"]} | extra)
        assert (answer.status, answer.problem) == (422, "validation-failed"), answer
        assert answer.json()["pointer"] == f"/{next(iter(extra))}"
    gone = await caller.post("/v1/api-keys", {"name": "k", "scopes": ["search:read"], "expires_at": 1})
    assert (gone.status, gone.problem) == (422, "expires-in-the-past")
