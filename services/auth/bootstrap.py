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
import psycopg
from aiokafka.errors import KafkaError

from events.producer import CommandProducer
from nexafi.credentials import API_KEY, CLIENT_SECRET, CredentialKeys, visible_prefix
from nexafi.ids import command_id, partition_for
from nexafi.settings import Settings
from schemas.auth.commands import IssueApiKey, RegisterClient
from schemas.common.base import Command
from schemas.common.envelope import CommandEnvelope
from schemas.common.scopes import SCOPES

TENANT: Final = "demo"
ACTOR: Final = "system:bootstrap"
WAIT_S: Final = 30.0


async def ensure_demo(settings: Settings) -> dict[str, Any]:
    """Make the demo credentials if they are absent; what `up` shows about them."""
    path = settings.data_dir / "credentials.json"
    if path.exists():
        return _shown(path, json.loads(path.read_text()))
    secrets = CredentialKeys.of(settings)
    scopes = sorted(SCOPES)
    client_cid = command_id(TENANT, ACTOR, "POST", "/v1/clients", "demo-client")
    key_cid = command_id(TENANT, ACTOR, "POST", "/v1/api-keys", "demo-key")
    client_secret, api_key = secrets.secret(CLIENT_SECRET, client_cid), secrets.secret(API_KEY, key_cid)
    producer = CommandProducer(settings, client="bootstrap")
    await producer.start()
    try:
        await _send(
            producer,
            settings,
            client_cid,
            RegisterClient(name="demo", secret_hash=secrets.hash(client_secret), scopes=scopes),
        )
        await _send(
            producer,
            settings,
            key_cid,
            IssueApiKey(
                name="demo", prefix=visible_prefix(api_key), key_hash=secrets.hash(api_key), scopes=scopes
            ),
        )
    except KafkaError as error:
        raise RuntimeError(f"the demo credentials could not be sent: {error}") from error
    finally:
        await producer.stop()
    client = await _result(settings, client_cid)
    await _result(settings, key_cid)
    credentials = {
        "tenant": TENANT,
        "client_id": client["client_id"],
        "client_secret": client_secret,
        "api_key": api_key,
        "url": f"http://{settings.host}:{settings.port('gateway')}",
        "book": await _demo_book(settings, api_key),
    }
    _write(path.with_name("demo.headers"), f"Authorization: Bearer {api_key}\n")
    _write(path, json.dumps(credentials, indent=2))
    return _shown(path, credentials)


async def _demo_book(settings: Settings, api_key: str) -> dict[str, str]:
    """A ledger with two people and 1000.00 EUR, made over HTTP like any caller would. Safe to repeat."""
    headers = {"authorization": f"Bearer {api_key}", "prefer": "wait=20"}
    async with httpx.AsyncClient(
        base_url=settings.service_url("gateway"), headers=headers, timeout=30
    ) as http:

        async def post(path: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
            for _ in range(50):  # the key is a moment old: the gateway may not have heard of it
                answer = await http.post(path, json=body, headers={"idempotency-key": key})
                if answer.status_code not in (401, 503):
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


async def _send(producer: CommandProducer, settings: Settings, cid: str, command: Command) -> None:
    envelope = CommandEnvelope(cid, command.TYPE, TENANT, ACTOR)
    shard = partition_for(cid, settings.shard_count("auth"))
    await producer.send("auth", shard, envelope, command.model_dump_json().encode())


async def _result(settings: Settings, cid: str) -> dict[str, Any]:
    """Wait for the stored answer; the auth writer must run."""
    for _ in range(int(WAIT_S / 0.1)):
        row = await asyncio.to_thread(_read, settings, cid)
        if row is not None:
            outcome, result = row
            if outcome != 0:
                raise RuntimeError(f"the demo credentials were refused: {result}")
            return result
        await asyncio.sleep(0.1)
    raise TimeoutError(f"no answer from the auth service within {WAIT_S:.0f} s: does its writer run?")


def _read(settings: Settings, cid: str) -> tuple[int, dict[str, Any]] | None:
    with psycopg.connect(settings.database) as conn:
        row = conn.execute(
            "SELECT outcome, result FROM auth.command_results WHERE command_id = %s", (cid,)
        ).fetchone()
    return None if row is None else (row[0], json.loads(bytes(row[1])))


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
