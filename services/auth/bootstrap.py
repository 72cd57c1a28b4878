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
    }
    _write(path, credentials)
    return _shown(path, credentials)


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


def _write(path: Path, credentials: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(credentials, file, indent=2)


def _shown(path: Path, credentials: dict[str, Any]) -> dict[str, Any]:
    """Where the secrets are, never the secrets."""
    return {"credentials": str(path), "tenant": credentials["tenant"], "client_id": credentials["client_id"]}
