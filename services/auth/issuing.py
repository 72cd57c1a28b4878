"""Issuing and ending credentials for any tenant as the installation's operator: the same commands, without a principal.

Who runs this has the installation's key, its Kafka and its database; a tenant's own administrator goes through
the API instead (``auth:admin``).
"""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import psycopg

from events.producer import CommandProducer
from nexafi.credentials import API_KEY, CLIENT_SECRET, CredentialKeys, visible_prefix
from nexafi.ids import command_id, partition_for, shard_of
from nexafi.settings import Settings
from schemas.auth.commands import DisableClient, IssueApiKey, RegisterClient, RevokeApiKey
from schemas.common.base import Command
from schemas.common.envelope import CommandEnvelope

WAIT_S: Final = 30.0
_POLL_S: Final = 0.1


class Issued(NamedTuple):
    """A credential; the secret is shown once and stored nowhere in clear."""

    id: str
    secret: str


class RefusedError(Exception):
    """The auth service said no: a stable reason and a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class Issuer:
    """Sends commands to the auth service and waits for their stored answers. ``key`` makes a repeat harmless."""

    def __init__(self, settings: Settings, *, actor: str) -> None:
        self._settings = settings
        self._actor = actor
        self._secrets = CredentialKeys.of(settings)
        self._producer = CommandProducer(settings, client="auth-issuer")

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._producer.stop()

    async def client(self, tenant: str, name: str, scopes: list[str], key: str) -> Issued:
        """Register an OAuth 2 client."""
        identifier = self._identify(tenant, "POST", "/v1/clients", key)
        secret = self._secrets.secret(CLIENT_SECRET, identifier)
        command = RegisterClient(name=name, secret_hash=self._secrets.hash(secret), scopes=scopes)
        return Issued((await self._run(tenant, identifier, command))["client_id"], secret)

    async def api_key(
        self, tenant: str, name: str, scopes: list[str], key: str, expires_at: int | None = None
    ) -> Issued:
        """Issue an API key; ``expires_at`` in microseconds since the epoch."""
        identifier = self._identify(tenant, "POST", "/v1/api-keys", key)
        secret = self._secrets.secret(API_KEY, identifier)
        command = IssueApiKey(
            name=name,
            prefix=visible_prefix(secret),
            key_hash=self._secrets.hash(secret),
            scopes=scopes,
            expires_at=expires_at,
        )
        return Issued((await self._run(tenant, identifier, command))["key_id"], secret)

    async def disable_client(self, tenant: str, client_id: str, key: str) -> None:
        """The client gets no further token, and its tokens end within seconds."""
        identifier = self._identify(tenant, "DELETE", f"/v1/clients/{client_id}", key)
        await self._run(tenant, identifier, DisableClient(client_id=client_id), of=client_id)

    async def revoke_api_key(self, tenant: str, key_id: str, key: str) -> None:
        """The key stops working within seconds."""
        identifier = self._identify(tenant, "DELETE", f"/v1/api-keys/{key_id}", key)
        await self._run(tenant, identifier, RevokeApiKey(key_id=key_id), of=key_id)

    def _identify(self, tenant: str, method: str, path: str, key: str) -> str:
        return command_id(tenant, self._actor, method, path, key)

    async def _run(
        self, tenant: str, identifier: str, command: Command, *, of: str | None = None
    ) -> dict[str, Any]:
        shards = self._settings.shard_count("auth")
        shard = partition_for(identifier, shards) if of is None else shard_of(of)
        if shard >= shards:
            raise RefusedError("not-found", "There is no such credential.")
        envelope = CommandEnvelope(identifier, command.TYPE, tenant, self._actor)
        await self._producer.send("auth", shard, envelope, command.model_dump_json().encode())
        for _ in range(int(WAIT_S / _POLL_S)):
            if (row := await asyncio.to_thread(self._stored, identifier)) is not None:
                outcome, result = row
                if outcome != 0:
                    raise RefusedError(result["reason"], result["detail"])
                return result
            await asyncio.sleep(_POLL_S)
        raise TimeoutError(f"no answer from the auth service within {WAIT_S:.0f} s: does its writer run?")

    def _stored(self, identifier: str) -> tuple[int, dict[str, Any]] | None:
        with psycopg.connect(self._settings.database) as connection:
            row = connection.execute(
                "SELECT outcome, result FROM auth.command_results WHERE command_id = %s", (identifier,)
            ).fetchone()
        return None if row is None else (row[0], json.loads(bytes(row[1])))
