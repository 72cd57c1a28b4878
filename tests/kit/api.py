"""A caller of the public API in tests: tenants with credentials of every kind, and answers that are easy to judge."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import orjson
from yarl import URL

from events.producer import CommandProducer
from nexafi.credentials import API_KEY, CredentialKeys, visible_prefix
from nexafi.ids import command_id, partition_for
from schemas.auth.commands import IssueApiKey
from schemas.common.envelope import CommandEnvelope
from schemas.common.scopes import SCOPES
from tests.kit.platform import Platform

PROBLEM: Final = "application/problem+json"
#: Every scope and every area's wildcard: nobody can grant what he does not have.
EVERY_SCOPE: Final = sorted({*SCOPES, *(f"{scope.partition(':')[0]}:*" for scope in SCOPES)})
_numbers = itertools.count()


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)

    @property
    def result(self) -> dict[str, Any]:
        """What an accepted command made."""
        assert self.status in (200, 201), (self.status, self.body[:500])
        found: dict[str, Any] = self.json()["result"]
        return found

    @property
    def problem(self) -> str:
        """The slug of a problem's type; ``""`` when this is none."""
        if self.headers.get("content-type") != PROBLEM:
            return ""
        kind: str = self.json()["type"]
        return kind.rpartition("/")[2]


@dataclass
class Caller:
    """One credential over HTTP. ``http`` is shared; nothing of a caller is kept in it."""

    http: aiohttp.ClientSession
    base: str
    token: str
    headers: dict[str, str] = field(default_factory=dict)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        wait_s: int | None = 20,
        headers: Mapping[str, str] | None = None,
        tries: int = 20,
    ) -> Answer:
        """One request. Commands get a fresh key and wait for their result unless told otherwise.

        While a part of the platform is away (503 with ``Retry-After``) it is tried again, as a client would.
        """
        sent = {"Authorization": f"Bearer {self.token}", **self.headers}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()  # any integer
        if method != "GET":
            sent["Content-Type"] = "application/json"
            sent["Idempotency-Key"] = key or fresh_key()
            if wait_s is not None:
                sent["Prefer"] = f"wait={wait_s}"
        sent |= headers or {}
        answer = await self._send(method, path, data, sent)
        for _ in range(tries - 1):
            if answer.status != 503 or "retry-after" not in answer.headers:
                break
            await asyncio.sleep(0.5)
            answer = await self._send(method, path, data, sent)
        return answer

    async def _send(self, method: str, path: str, data: bytes | None, sent: Mapping[str, str]) -> Answer:
        url = URL(self.base + path, encoded=True)
        async with self.http.request(method, url, data=data, headers=sent, allow_redirects=False) as answer:
            streamed = answer.content_type == "text/event-stream"  # it has no end to be read to
            content = b"" if streamed else await answer.read()
            named = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, named, content)

    async def get(self, path: str, **headers: str) -> Answer:
        """A read; ``consistency_token="..."`` and the like become headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("GET", path, headers=named)

    async def post(self, path: str, body: Any, **options: Any) -> Answer:
        """A command."""
        return await self.call("POST", path, body, **options)

    async def make(self, path: str, body: Any, name: str) -> str:
        """Create something and return its id, ``result[name]``."""
        made = await self.post(path, body)
        identifier: str = made.result[name]
        return identifier

    async def key(self, scopes: Iterable[str]) -> Caller:
        """Issue an API key of this tenant with ``scopes`` and call with it."""
        answer = await self.post("/v1/api-keys", {"name": "a test's key", "scopes": sorted(scopes)})
        assert answer.status == 201, answer
        other = Caller(self.http, self.base, answer.json()["api_key"])
        await other.known()
        return other

    async def client(self, scopes: Iterable[str]) -> tuple[str, str]:
        """Register an OAuth client of this tenant; its id and secret."""
        answer = await self.post("/v1/clients", {"name": "a test's client", "scopes": sorted(scopes)})
        return answer.result["client_id"], answer.json()["client_secret"]

    async def with_token(self, client_id: str, secret: str, scope: str = "") -> Caller:
        """Call with an access token of a client, narrowed to ``scope``."""
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        form |= {"scope": scope} if scope else {}
        for _ in range(100):
            async with self.http.post(f"{self.base}/oauth/token", data=form) as answer:
                body = await answer.json()
                if answer.status == 200:
                    return Caller(self.http, self.base, body["access_token"])
            await asyncio.sleep(0.1)
        raise AssertionError(f"no token: {body}")

    async def known(self) -> None:
        """Wait until the platform knows this credential."""
        for _ in range(300):
            if (await self.get("/v1/operations/none")).status == 404:
                return
            await asyncio.sleep(0.1)
        raise AssertionError("the credential is still not known")


def fresh_key() -> str:
    """An idempotency key that nobody used before."""
    return f"t-{secrets.token_hex(6)}-{next(_numbers)}"


@asynccontextmanager
async def callers(platform: Platform, *tenants: str) -> AsyncIterator[list[Caller]]:
    """A caller with every scope for each new tenant; names get a random end, so that every run has its own."""
    connector = aiohttp.TCPConnector(limit=256)
    timeout = aiohttp.ClientTimeout(total=90)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        keys = [await first_key(platform, f"{name}-{secrets.token_hex(4)}") for name in tenants]
        made = [Caller(http, platform.url, key) for key in keys]
        for caller in made:
            await caller.known()
        yield made


async def first_key(platform: Platform, tenant: str) -> str:
    """The first API key of a tenant, issued as an installation issues it: by a command of the system itself."""
    settings, actor = platform.settings, "system:bootstrap"
    keys = CredentialKeys.of(settings)
    identifier = command_id(tenant, actor, "POST", "/v1/api-keys", "first")
    key = keys.secret(API_KEY, identifier)
    command = IssueApiKey(
        name="first", prefix=visible_prefix(key), key_hash=keys.hash(key), scopes=EVERY_SCOPE
    )
    producer = CommandProducer(settings, client="test")
    await producer.start()
    try:
        envelope = CommandEnvelope(identifier, command.TYPE, tenant, actor)
        shard = partition_for(identifier, settings.shard_count("auth"))
        await producer.send("auth", shard, envelope, command.model_dump_json().encode())
    finally:
        await producer.stop()
    return key
