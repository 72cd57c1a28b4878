"""The demo tenant of a local installation: one OAuth 2 client and one API key, made through the command path.

Idempotent: the same installation always issues the same commands, so a second run finds the same ids. The
secrets follow from the installation's key (:class:`nexafi.credentials.CredentialKeys`) and are written only
to ``<data_dir>/credentials.json`` with mode 0600.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Final

import httpx
from aiokafka.errors import KafkaError

from nexafi.settings import Settings
from schemas.common.scopes import SCOPES
from services.auth.issuing import Issuer

TENANT: Final = "demo"
ACTOR: Final = "system:bootstrap"
WAIT_S: Final = 30.0


async def ensure_demo(settings: Settings) -> dict[str, Any]:
    """Make the demo credentials if they are absent; what `up` shows about them."""
    path = settings.data_dir / "credentials.json"
    if path.exists():
        return _shown(path, json.loads(path.read_text()))
    scopes = sorted(SCOPES)
    try:
        async with Issuer(settings, actor=ACTOR) as issuer:
            client = await issuer.client(TENANT, "demo", scopes, "demo-client")
            key = await issuer.api_key(TENANT, "demo", scopes, "demo-key")
    except KafkaError as error:
        raise RuntimeError(f"the demo credentials could not be sent: {error}") from error
    credentials = {
        "tenant": TENANT,
        "client_id": client.id,
        "client_secret": client.secret,
        "api_key": key.secret,
        "url": f"http://{settings.host}:{settings.port('gateway')}",
        "book": await _demo_book(settings, key.secret),
    }
    _write(path.with_name("demo.headers"), f"Authorization: Bearer {key.secret}\n")
    _write(path, json.dumps(credentials, indent=2))
    return _shown(path, credentials)


async def _demo_book(settings: Settings, api_key: str) -> dict[str, str]:
    """A ledger with two people and 1000.00 EUR, made over HTTP like any caller would. Safe to repeat."""
    headers = {"authorization": f"Bearer {api_key}", "prefer": "wait=20"}
    async with httpx.AsyncClient(
        base_url=settings.service_url("gateway"), headers=headers, timeout=30
    ) as http:

        async def post(path: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
            for _ in range(50):  # a role may still be starting
                answer = await http.post(path, json=body, headers={"idempotency-key": key})
                if answer.status_code != 503:
                    break
                await asyncio.sleep(0.2)
            answer.raise_for_status()
            result: dict[str, Any] = answer.json()["result"]
            return result

        ledger = (await post("/v1/ledgers", "demo-ledger", {"name": "demo"}))["ledger_id"]
        book = {"ledger_id": ledger}
        for code, side in (("cash", "debit"), ("alice", "credit"), ("bob", "credit")):
            body: dict[str, Any] = {"code": code, "currency": "EUR", "normal_side": side}
            body |= {"floor": 0} if side == "credit" else {}  # nobody overdraws
            made = await post(f"/v1/ledgers/{ledger}/accounts", f"demo-{code}", body)
            book[code] = made["account_id"]
        legs = [
            {"account_id": book[code], "side": side, "amount": 100_000, "currency": "EUR"}
            for code, side in (("cash", "debit"), ("alice", "credit"))
        ]
        await post(
            f"/v1/ledgers/{ledger}/transactions", "demo-deposit", {"entries": legs, "description": "deposit"}
        )
    return book


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _shown(path: Path, credentials: dict[str, Any]) -> dict[str, Any]:
    """Where the secrets are, never the secrets; and a payment to paste."""
    book = credentials["book"]
    payment = {
        "ledger_id": book["ledger_id"],
        "payer": {"account_id": book["alice"], "name": "Alice Jones"},
        "payee": {"account_id": book["bob"], "name": "Bob Miller"},
        "amount": 1250,
        "currency": "EUR",
        "description": "my first payment",
    }
    curl = (
        f"curl -s {credentials['url']}/v1/payments -H @{path.with_name('demo.headers')} \\\n"
        "  -H 'Content-Type: application/json' -H \"Idempotency-Key: $(date +%s%N)\" -H 'Prefer: wait=5' \\\n"
        f"  -d '{json.dumps(payment)}'"
    )
    return {
        "credentials": str(path),
        "tenant": credentials["tenant"],
        "client_id": credentials["client_id"],
        "ledger": book["ledger_id"],
        "curl": curl,
    }
