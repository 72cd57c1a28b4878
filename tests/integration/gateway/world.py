"""Two tenants that own one thing of every kind, and a credential for every set of scopes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp

from schemas.common.scopes import SCOPES
from tests.kit.api import EVERY_SCOPE, Answer, Caller, callers
from tests.kit.platform import Platform

T = TypeVar("T")
#: On the list that comes with the product, so a payment to it waits for an officer.
SANCTIONED: Final = "Banco Nacional de Cuba"
#: Name of a set of scopes -> the scopes. Single ones, wildcards of an area, all but the one of an area.
SCOPE_SETS: Final[dict[str, frozenset[str]]] = {
    **{scope: frozenset({scope}) for scope in EVERY_SCOPE},
    **{f"all but {scope}": frozenset(SCOPES) - {scope} for scope in SCOPES},
    "all": frozenset(SCOPES),
}
#: Account of an estate -> its normal side. The last two are in USD.
PARTIES: Final = {
    "cash": "debit",
    "alice": "credit",
    "bob": "credit",
    "dollars": "credit",
    "fx": "credit",
}


def paying(code: str) -> dict[str, Any]:
    """A flow of a price from the account with ``code`` to a payee."""
    return {
        "amount": {"variable": "price"},
        "sources": [{"account": {"code": code}}],
        "destinations": [{"account": {"variable": "payee"}}],
    }


TERMINAL: Final = frozenset({"settled", "rejected", "failed", "cancelled"})


@dataclass(frozen=True)
class Estate:
    """What one tenant owns. ``ids`` has a value for every path parameter, ``tokens`` a credential for each set."""

    tenant: str
    ids: Mapping[str, str]
    accounts: Mapping[str, str]
    word: str
    token: str
    tokens: Mapping[str, str]

    def caller(self, http: aiohttp.ClientSession, base: str, scopes: str = "") -> Caller:
        """Call as this tenant: with every scope, or with those of a set."""
        return Caller(http, base, self.tokens[scopes] if scopes else self.token)


@dataclass(frozen=True)
class World:
    """Two tenants of one platform."""

    platform: Platform
    ours: Estate
    theirs: Estate

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Connections for one test."""
        connector, timeout = aiohttp.TCPConnector(limit=128), aiohttp.ClientTimeout(total=90)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
            yield http


async def build(platform: Platform) -> World:
    """Make both tenants and all that they own."""
    async with callers(platform, "ours", "theirs") as (ours, theirs):
        estates = await asyncio.gather(estate_of(ours), estate_of(theirs))
    return World(platform, *estates)


async def estate_of(owner: Caller, scope_sets: Mapping[str, frozenset[str]] = SCOPE_SETS) -> Estate:
    """One of everything for the tenant of ``owner``, and a key for each set of scopes."""
    word = f"w{secrets.token_hex(5)}"
    ledger = await owner.make("/v1/ledgers", {"name": word}, "ledger_id")
    book = f"/v1/ledgers/{ledger}"
    accounts = {}
    for code, side in PARTIES.items():
        currency = "USD" if code in ("dollars", "fx") else "EUR"
        body = {"code": f"{word}-{code}", "currency": currency, "normal_side": side, "metadata": {"w": word}}
        accounts[code] = await owner.make(f"{book}/accounts", body, "account_id")
    closed = await owner.post(f"{book}/periods/close", {"until": 1, "closing": "soft"})
    assert closed.status == 200, closed
    pay = {"amounts": ["price"], "accounts": ["payee"], "flows": [paying(f"{word}-alice")]}
    defined = await owner.post(f"{book}/templates", {"name": "pay", "template": pay})
    assert defined.status == 201, defined
    deposit = {"entries": transfer(accounts["cash"], accounts["alice"], 10**9), "description": word}
    ids = {"ledger_id": ledger, "account_id": accounts["alice"]}
    ids["transaction_id"] = await owner.make(f"{book}/transactions", deposit, "transaction_id")
    ids["hold_id"] = await owner.make(f"{book}/holds", hold(accounts, 100) | {"reference": word}, "hold_id")
    body = payment(ledger, accounts) | {"external_reference": word, "description": word}
    made = await owner.post("/v1/payments", body)
    ids["payment_id"] = made.result["payment_id"]
    ids["operation_id"] = made.json()["id"]
    suspect = payment(ledger, accounts) | {"payee": {"account_id": accounts["bob"], "name": SANCTIONED}}
    parked = await owner.make("/v1/payments", suspect, "payment_id")
    ids["client_id"], _ = await owner.client(["search:read"])
    ids["key_id"] = (await owner.post("/v1/api-keys", {"name": word, "scopes": ["search:read"]})).result[
        "key_id"
    ]
    keys = {name: await owner.key(scopes) for name, scopes in scope_sets.items()}
    settled = await payment_at(owner, ids["payment_id"], TERMINAL)
    assert settled["status"] == "settled", settled
    await payment_at(owner, parked, frozenset({"in_review", "review", "in-review"}))
    case = await _listed(owner, f"/v1/compliance/cases?payment_id={parked}")
    ids["case_id"] = case["case_id"]
    screening = await _listed(owner, f"/v1/compliance/screenings?payment_id={parked}")
    ids["screening_id"] = screening["screening_id"]
    tokens = {name: key.token for name, key in keys.items()}
    return Estate(settled["tenant"], ids, accounts, word, owner.token, tokens)


async def _listed(owner: Caller, path: str) -> dict[str, Any]:
    """The first of a list once it is in the view, which is another than the one that said so before."""
    for _ in range(600):
        answer = await owner.get(path)
        if answer.status == 200 and answer.json()["items"]:
            found: dict[str, Any] = answer.json()["items"][0]
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"nothing within a minute: {path}")


async def payment_at(owner: Caller, payment_id: str, wanted: frozenset[str]) -> dict[str, Any]:
    """The payment once its status is one of ``wanted``."""
    for _ in range(600):
        answer: Answer = await owner.get(f"/v1/payments/{payment_id}")
        if answer.status == 200 and answer.json()["status"] in wanted:
            found: dict[str, Any] = answer.json()
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"not {sorted(wanted)} within a minute: {answer}")


def transfer(debit: str, credit: str, amount: int, currency: str = "EUR") -> list[dict[str, Any]]:
    """Two legs."""
    leg = {"amount": amount, "currency": currency}
    return [{"account_id": debit, "side": "debit"} | leg, {"account_id": credit, "side": "credit"} | leg]


def hold(accounts: Mapping[str, str], amount: int) -> dict[str, Any]:
    """The body of a hold from alice to bob."""
    parties = {"debit_account_id": accounts["alice"], "credit_account_id": accounts["bob"]}
    return {**parties, "amount": amount, "currency": "EUR"}


def payment(ledger: str, accounts: Mapping[str, str]) -> dict[str, Any]:
    """The body of a payment from alice to bob."""
    return {
        "ledger_id": ledger,
        "payer": {"account_id": accounts["alice"], "name": "Alice Jones"},
        "payee": {"account_id": accounts["bob"], "name": "Bob Miller"},
        "amount": 1250,
        "currency": "EUR",
    }


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` in a loop of its own beside the test's, for fixtures that outlive a test."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
