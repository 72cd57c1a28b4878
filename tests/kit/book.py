"""A ledger with accounts over HTTP, for tests that need money to move."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from tests.kit.api import Answer, Caller


@dataclass(frozen=True)
class Book:
    """A ledger where ``cash`` is the other side of everything and ``alice`` may not overdraw."""

    caller: Caller
    ledger_id: str
    cash: str
    alice: str
    bob: str

    @property
    def path(self) -> str:
        """The ledger's path."""
        return f"/v1/ledgers/{self.ledger_id}"

    def transaction(self, amount: int = 1, description: str = "") -> dict[str, Any]:
        """Cash in for alice."""
        legs = ((self.cash, "debit"), (self.alice, "credit"))
        entries = [{"account_id": a, "side": s, "amount": amount, "currency": "EUR"} for a, s in legs]
        return {"entries": entries, "description": description}

    async def post(self, amount: int = 1, description: str = "", **options: Any) -> Answer:
        """Post it."""
        return await self.caller.post(
            f"{self.path}/transactions", self.transaction(amount, description), **options
        )

    def payment(self, amount: int, **fields: Any) -> dict[str, Any]:
        """Alice pays bob."""
        return {
            "ledger_id": self.ledger_id,
            "payer": {"account_id": self.alice, "name": "Alice Jones"},
            "payee": {"account_id": self.bob, "name": "Bob Miller"},
            "amount": amount,
            "currency": "EUR",
            **fields,
        }


async def book_of(caller: Caller) -> Book:
    """Make one."""
    ledger = await caller.make("/v1/ledgers", {"name": "a test's ledger"}, "ledger_id")

    async def account(code: str, side: str) -> str:
        floor = {"floor": 0} if side == "credit" else {}
        body = {"code": code, "currency": "EUR", "normal_side": side, **floor}
        return await caller.make(f"/v1/ledgers/{ledger}/accounts", body, "account_id")

    cash, alice, bob = await asyncio.gather(
        account("cash", "debit"), account("alice", "credit"), account("bob", "credit")
    )
    return Book(caller, ledger, cash, alice, bob)
