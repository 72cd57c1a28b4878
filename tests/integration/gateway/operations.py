"""Every operation of the OpenAPI document, and for each a request that would be accepted from its owner."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from gateway.app import openapi_document
from tests.integration.gateway.world import PARTIES, Estate, hold, paying, payment, transfer

_PARAMETER: Final = re.compile(r"{(\w+)}")


@dataclass(frozen=True)
class Operation:
    """One operation. ``name`` is ``METHOD /template``."""

    method: str
    template: str
    query: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.method} {self.template}"

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(_PARAMETER.findall(self.template))

    @property
    def is_command(self) -> bool:
        return self.method != "GET"

    @property
    def is_bulk(self) -> bool:
        return self.template.endswith("/bulk")

    def path(self, ids: Mapping[str, str]) -> str:
        """The path with these ids in it."""
        return self.template.format_map(ids)


@cache
def operations() -> tuple[Operation, ...]:
    """All of them, in the order of the document."""
    return tuple(
        Operation(
            method.upper(),
            template,
            tuple(p["name"] for p in operation["parameters"] if p["in"] == "query"),
        )
        for template, methods in openapi_document()["paths"].items()
        for method, operation in methods.items()
    )


def like(identifier: str) -> str:
    """An id of the same form and shard that nobody was given; an operation's gets a mac that does not fit."""
    if "." in identifier:
        return identifier[:-22] + secrets.token_urlsafe(16)
    return identifier[:20] + f"{secrets.randbits(60) | 1:015x}"[:3] + "-" + secrets.token_hex(6)


def _entries(estate: Estate) -> dict[str, Any]:
    return {"entries": transfer(estate.accounts["alice"], estate.accounts["bob"], 1)}


def _chart(estate: Estate) -> dict[str, Any]:
    """A place for each account of the estate."""
    return {
        "nodes": [
            {"code": f"{estate.word}-{code}", "type": "asset" if side == "debit" else "liability"}
            for code, side in PARTIES.items()
        ]
    }


_RATE: Final = {"numerator": 11, "denominator": 10, "source": "desk"}


def _conversion(estate: Estate) -> dict[str, Any]:
    """Alice's euro for dollars, with bob's euro and the dollars of ``fx`` as liquidity."""
    parties = {"source": "alice", "target": "dollars", "source_liquidity": "bob", "target_liquidity": "fx"}
    accounts = {f"{role}_account_id": estate.accounts[code] for role, code in parties.items()}
    return {**accounts, "amount": 100, "rate": _RATE}


def _applied(estate: Estate) -> dict[str, Any]:
    return {"name": "pay", "accounts": {"payee": estate.accounts["bob"]}, "amounts": {"price": 1}}


def _revaluation(estate: Estate) -> dict[str, Any]:
    """What ``fx`` holds, against bob's account."""
    roles = {"counter": "bob", "gain": "alice", "loss": "alice"}
    accounts = {f"{role}_account_id": estate.accounts[code] for role, code in roles.items()}
    positions = [estate.accounts["fx"]]
    return {"position_account_ids": positions, **accounts, "rates": [{"base": "USD", **_RATE}]}


#: Command -> its body, made of what ``estate`` owns.
BODIES: Final[dict[str, Callable[[Estate], Any]]] = {
    "POST /v1/ledgers": lambda _: {"name": "a ledger"},
    "POST /v1/ledgers/{ledger_id}/accounts": lambda _: {
        "code": f"c{secrets.token_hex(4)}",
        "currency": "EUR",
    },
    "POST /v1/ledgers/{ledger_id}/chart": _chart,
    "POST /v1/ledgers/{ledger_id}/assets": lambda _: {
        "code": f"T{secrets.token_hex(4).upper()}",
        "places": 2,
        "name": "Points",
    },
    "POST /v1/ledgers/{ledger_id}/rates": lambda _: {"base": "USD", "quote": "EUR", **_RATE},
    "POST /v1/ledgers/{ledger_id}/conversions": _conversion,
    "POST /v1/ledgers/{ledger_id}/revaluations": _revaluation,
    "POST /v1/ledgers/{ledger_id}/templates": lambda e: {
        "name": f"t{secrets.token_hex(4)}",
        "template": {
            "amounts": ["price"],
            "accounts": ["payee"],
            "flows": [paying(f"{e.word}-alice")],
        },
    },
    "POST /v1/ledgers/{ledger_id}/templates/apply": _applied,
    "POST /v1/ledgers/{ledger_id}/templates/apply/bulk": lambda e: [_applied(e)],
    "POST /v1/ledgers/{ledger_id}/periods/close": lambda _: {"until": 2, "closing": "soft"},
    "POST /v1/ledgers/{ledger_id}/periods/reopen": lambda _: {"until": 1},
    "POST /v1/ledgers/{ledger_id}/adjustments": lambda e: {
        "transaction": {**_entries(e), "effective_at": 0},
        "reason": "forgotten",
    },
    "PATCH /v1/ledgers/{ledger_id}/accounts/{account_id}/metadata": lambda _: {"metadata": {"k": "v"}},
    "PATCH /v1/ledgers/{ledger_id}/accounts/{account_id}/limits": lambda _: {"floor": -1},
    "POST /v1/ledgers/{ledger_id}/accounts/{account_id}/close": lambda _: {},
    "POST /v1/ledgers/{ledger_id}/transactions": _entries,
    "POST /v1/ledgers/{ledger_id}/transactions/bulk": lambda e: [_entries(e)],
    "POST /v1/ledgers/{ledger_id}/transactions/{transaction_id}/reverse": lambda _: {"description": "no"},
    "POST /v1/ledgers/{ledger_id}/transaction-batches": lambda e: {"transactions": [_entries(e)]},
    "POST /v1/ledgers/{ledger_id}/holds": lambda e: hold(e.accounts, 1),
    "POST /v1/ledgers/{ledger_id}/holds/bulk": lambda e: [hold(e.accounts, 1)],
    "POST /v1/ledgers/{ledger_id}/holds/{hold_id}/post": lambda _: {"amount": 1, "final": False},
    "POST /v1/ledgers/{ledger_id}/holds/{hold_id}/void": lambda _: {"reason": "no"},
    "POST /v1/payments": lambda e: payment(e.ids["ledger_id"], e.accounts),
    "POST /v1/payments/bulk": lambda e: [payment(e.ids["ledger_id"], e.accounts)],
    "POST /v1/payments/{payment_id}/cancel": lambda _: {"reason": "no"},
    "POST /v1/payments/{payment_id}/refunds": lambda _: {"amount": 1},
    "POST /v1/compliance/cases/{case_id}/decision": lambda _: {"decision": "block", "note": "no"},
    "POST /v1/clients": lambda _: {"name": "a client", "scopes": ["search:read"]},
    "DELETE /v1/clients/{client_id}": lambda _: {},
    "POST /v1/api-keys": lambda _: {"name": "a key", "scopes": ["search:read"]},
    "DELETE /v1/api-keys/{key_id}": lambda _: {},
}
