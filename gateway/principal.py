"""Who is asking: access tokens and API keys, verified once and then recognised.

A credential is checked in full when it is first seen (the signature of a token, the hash of a key, and
whether the client or key is alive), then recognised by its SHA-256 in a bounded cache. Liveness is asked
again in the background after ``REFRESH_S`` and never assumed for longer than ``TRUST_S``: a revocation works
within 5 seconds, and when the auth service can not be asked the answer is 503, not a guess.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Protocol

import orjson
import structlog

from nexafi.credentials import API_KEY, CredentialKeys
from nexafi.problems import ProblemError
from nexafi.signing import AccessTokens, InvalidTokenError

log = structlog.get_logger(__name__)

REFRESH_S: Final = 2.0
TRUST_S: Final = 4.0
MAX_CACHED: Final = 20_000
MAX_CREDENTIAL_BYTES: Final = 4200
_KEY_PREFIX: Final = API_KEY.encode()
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. ``actor`` goes into the history: ``client:<id>`` or ``key:<id>``."""

    tenant: str
    actor: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Machine:
    """A client or API key as the auth service knows it. ``expires_at`` in microseconds."""

    id: str
    kind: str
    tenant: str
    hash: str
    scopes: frozenset[str]
    expires_at: int | None
    live: bool


class Lookup(Protocol):
    """Asks the auth service; raises the ``service-unavailable`` problem when it can not be asked."""

    async def system_get(self, service: str, target: str) -> tuple[int, bytes]:
        """Status and body of an internal read on behalf of the system."""


class Directory:
    """Clients and API keys, asked of the auth service; several askers of one share the answer."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._asking: dict[str, asyncio.Task[Machine | None]] = {}

    async def client(self, client_id: str) -> Machine | None:
        """A client by id."""
        return await self._ask(f"/internal/clients/{client_id}")

    async def key_by_hash(self, key_hash: str) -> Machine | None:
        """An API key by the keyed hash of its secret."""
        return await self._ask(f"/internal/api-keys/by-hash/{key_hash}")

    async def _ask(self, target: str) -> Machine | None:
        task = self._asking.get(target)
        if task is None:
            task = asyncio.create_task(self._fetch(target))
            self._asking[target] = task
            task.add_done_callback(lambda _: self._asking.pop(target, None))
        return await asyncio.shield(task)

    async def _fetch(self, target: str) -> Machine | None:
        status, body = await self._lookup.system_get("auth", target)
        if status == 404:
            return None
        if status != 200:
            raise ProblemError(
                "service-unavailable", "Credentials can not be checked now.", headers={"Retry-After": "1"}
            )
        m: dict[str, Any] = orjson.loads(body)
        return Machine(
            m["id"], m["kind"], m["tenant"], m["hash"], frozenset(m["scopes"]), m["expires_at"], m["live"]
        )


@dataclass(slots=True)
class _Entry:
    principal: Principal
    ask: str  # client id, or hash of an API key
    is_key: bool
    ends_at: float
    checked_at: float
    refreshing: bool = False


class Authenticator:
    """From the headers of a request to its principal."""

    def __init__(
        self,
        tokens: AccessTokens,
        secrets: CredentialKeys,
        directory: Directory,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tokens = tokens
        self._secrets = secrets
        self._directory = directory
        self._clock = clock
        self._cache: dict[bytes, _Entry] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def known(self, headers: Mapping[bytes, bytes]) -> Principal | None:
        """The principal of a credential seen before, without waiting; ``None``: it must be checked."""
        raw = headers.get(b"authorization")
        if raw is None:
            raw = headers.get(b"x-api-key")
            if raw is None or not raw.startswith(
                _KEY_PREFIX
            ):  # else a whole "Bearer ..." would be recognised
                return None
        digest = sha256(raw).digest()
        entry = self._cache.get(digest)
        if entry is None:
            return None
        now = self._clock()
        age = now - entry.checked_at
        if age > TRUST_S or now >= entry.ends_at or (b"x-api-key" in headers and b"authorization" in headers):
            return None
        if age > REFRESH_S and not entry.refreshing:
            entry.refreshing = True
            task = asyncio.create_task(self._refresh(digest, entry))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return entry.principal

    async def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        """The principal of any credential; a 401 problem when it proves nothing."""
        raw, credential = _credential(headers)
        digest = sha256(raw).digest()
        entry = self._cache.get(digest)
        now = self._clock()
        if entry is not None and now < entry.ends_at:
            if now - entry.checked_at > TRUST_S:
                await self._check(digest, entry)
            return entry.principal
        if credential.startswith(API_KEY):
            entry = await self._from_key(credential, now)
        else:
            entry = await self._from_token(credential, now)
        while len(self._cache) >= MAX_CACHED:
            self._cache.pop(next(iter(self._cache)))
        self._cache[digest] = entry
        return entry.principal

    async def still_valid(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a long-lived answer may go on. While the auth service is away it may not."""
        try:
            return (self.known(headers) or await self.authenticate(headers)) is not None
        except ProblemError:
            return False

    async def _from_token(self, token: str, now: float) -> _Entry:
        try:
            claims = self._tokens.verify(token)
        except InvalidTokenError as error:
            raise _refused("invalid-token", str(error)) from None
        client = await self._directory.client(claims.client_id)
        if client is None or not client.live or client.tenant != claims.tenant:
            raise _refused("invalid-token", "the client has ended")
        principal = Principal(claims.tenant, f"client:{claims.client_id}", claims.scopes & client.scopes)
        return _Entry(principal, claims.client_id, False, float(claims.expires_at), now)

    async def _from_key(self, key: str, now: float) -> _Entry:
        key_hash = self._secrets.hash(key)
        machine = await self._directory.key_by_hash(key_hash)
        if machine is None or not self._secrets.matches(key, machine.hash) or not _alive(machine, now):
            raise _refused("invalid-api-key", "unknown, expired or revoked")
        ends = float("inf") if machine.expires_at is None else machine.expires_at / 1e6
        principal = Principal(machine.tenant, f"key:{machine.id}", machine.scopes)
        return _Entry(principal, key_hash, True, ends, now)

    async def _check(self, digest: bytes, entry: _Entry) -> None:
        """Ask whether the credential's owner is alive; drop it and answer 401 when it is not."""
        asked_at = self._clock()
        ask = self._directory.key_by_hash if entry.is_key else self._directory.client
        machine = await ask(entry.ask)
        if machine is None or not _alive(machine, asked_at):
            self._cache.pop(digest, None)
            raise _refused("invalid-api-key" if entry.is_key else "invalid-token", "revoked")
        entry.checked_at = asked_at

    async def _refresh(self, digest: bytes, entry: _Entry) -> None:
        try:
            await self._check(digest, entry)
        except ProblemError as problem:
            # Revoked: already dropped. Not to be asked: the entry ages until it is no longer trusted.
            if problem.status >= 500:
                log.warning("credentials can not be checked", reason=problem.slug)
                await asyncio.sleep(0.3)
        finally:
            entry.refreshing = False


def _alive(machine: Machine, now: float) -> bool:
    return machine.live and (machine.expires_at is None or machine.expires_at / 1e6 > now)


def _refused(slug: str, detail: str) -> ProblemError:
    challenge = f'Bearer error="invalid_token", error_description="{detail}"'
    return ProblemError(slug, detail, headers={"WWW-Authenticate": challenge})


def _credential(headers: Mapping[bytes, bytes]) -> tuple[bytes, str]:
    authorization, key = headers.get(b"authorization"), headers.get(b"x-api-key")
    if authorization is None and key is None:
        raise ProblemError(
            "unauthenticated", "Send an access token or an API key as a bearer token.", headers=_CHALLENGE
        )
    if authorization is not None and key is not None:
        raise _refused("invalid-token", "two credentials in one request")
    raw = authorization if authorization is not None else key
    assert raw is not None
    if len(raw) > MAX_CREDENTIAL_BYTES or not raw.isascii():
        raise _refused("invalid-token", "not a credential")
    text = raw.decode()
    if authorization is None:
        if not text.startswith(API_KEY):
            raise _refused("invalid-api-key", "not an API key")
        return raw, text
    scheme, _, credential = text.partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise ProblemError("unauthenticated", "Only the Bearer scheme is known here.", headers=_CHALLENGE)
    return raw, credential.strip()
