"""The services' query APIs over HTTP: signed, pooled, bounded, and never a 500 when one is away."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

import aiohttp
import structlog
from yarl import URL

from nexafi.internal_auth import InternalAuth
from nexafi.problems import ProblemError
from nexafi.settings import Settings

log = structlog.get_logger(__name__)

#: Requests to one service at a time; more wait, and give up when it takes too long.
MAX_OPEN: Final = 64
CONNECT_S: Final = 2.0
TIMEOUT_S: Final = 15.0
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
#: Headers of a service's answer that a client gets to see.
_PASSED: Final = ("Content-Type", "Consistency-Token", "Retry-After", "ETag", "Link")


class Reply(NamedTuple):
    """An answer of a service."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Services:
    """HTTP client for all services."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._auth = InternalAuth.of(settings)
        self._session: aiohttp.ClientSession | None = None
        self._slots: dict[str, asyncio.Semaphore] = {}

    async def start(self) -> None:
        """Open the pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=MAX_OPEN, ttl_dns_cache=30),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S, connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def stop(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()

    async def get(
        self,
        service: str,
        target: str,
        *,
        tenant: str,
        actor: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Reply:
        """``GET target`` (path and query as they go over the wire) on behalf of ``tenant``."""
        assert self._session is not None, "start() first"
        signed = {**(headers or {}), **self._auth.sign(tenant, actor, target)}
        url = URL(self._settings.service_url(service).rstrip("/") + target, encoded=True)
        slots = self._slots.setdefault(service, asyncio.Semaphore(MAX_OPEN))
        try:
            async with (
                asyncio.timeout(timeout_s),
                slots,
                self._session.get(url, headers=signed, allow_redirects=False) as response,
            ):
                body = await response.content.read(MAX_ANSWER_BYTES + 1)
                while not response.content.at_eof() and len(body) <= MAX_ANSWER_BYTES:
                    body += await response.content.read(MAX_ANSWER_BYTES + 1 - len(body))
                passed = [
                    (name.lower().encode(), response.headers[name].encode("latin-1"))
                    for name in _PASSED
                    if name in response.headers
                ]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("service away", upstream=service, error=type(error).__name__)
            raise away(service) from error
        if len(body) > MAX_ANSWER_BYTES:
            raise away(service)
        return Reply(response.status, passed, body)

    async def system_get(self, service: str, target: str) -> tuple[int, bytes]:
        """``GET target`` on behalf of the system itself."""
        reply = await self.get(service, target, tenant="", actor="system:gateway", timeout_s=3.0)
        return reply.status, reply.body


def away(service: str) -> ProblemError:
    """The problem when a service does not answer."""
    return ProblemError(
        "service-unavailable",
        f"The {service} service does not answer now.",
        headers={"Retry-After": "1"},
        extra={"service": service},
    )
