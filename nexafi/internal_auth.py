"""Who may call a service's ``/internal`` routes: the parts of NexaFi, each request signed.

The port of a service alone gives nothing away. A caller proves that it knows the installation's key by
an HMAC-SHA256 over (tenant, actor, target, minute); the target is the path with its query exactly as on
the wire. A signature holds for the minute it names and one on either side.

Headers::

    x-nexafi-tenant:    tenant whose objects may be seen ("" for the system itself: results, heads, keys)
    x-nexafi-actor:     principal on whose behalf
    x-nexafi-signature: <minute>.<64 hex digits>
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from nexafi.settings import Settings

TENANT: Final = "x-nexafi-tenant"
ACTOR: Final = "x-nexafi-actor"
SIGNATURE: Final = "x-nexafi-signature"
#: Key of the verified :class:`Caller` in an ASGI scope.
SCOPE_KEY: Final = "nexafi.caller"
PREFIX: Final = "/internal"

_Scope = MutableMapping[str, Any]
_App = Callable[[_Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class Caller(NamedTuple):
    """On whose behalf a verified internal request comes. ``tenant`` is "" for the system itself."""

    tenant: str
    actor: str


class InternalAuth:
    """Signs and verifies internal requests with a key derived from the installation's."""

    def __init__(self, key: bytes, clock: Callable[[], float] = time.time) -> None:
        self._key = hmac.digest(key, b"nexafi/internal-auth/v1", sha256)
        self._clock = clock

    @classmethod
    def of(cls, settings: Settings) -> InternalAuth:
        """With the key of these settings."""
        return cls(settings.hmac_key.get_secret_value().encode())

    def sign(self, tenant: str, actor: str, target: str) -> dict[str, str]:
        """Headers of a request; ``target`` is the path and query exactly as they will be sent."""
        minute = int(self._clock() // 60)
        return {
            TENANT: tenant,
            ACTOR: actor,
            SIGNATURE: f"{minute}.{self._mac(tenant, actor, target, minute)}",
        }

    def verify(self, headers: Iterable[tuple[bytes, bytes]], target: str) -> Caller | None:
        """The caller of a request with these raw ASGI headers, or ``None`` when it proves nothing."""
        found: dict[str, str] = {}
        for name, value in headers:
            key = name.decode("latin-1")
            if key in (TENANT, ACTOR, SIGNATURE):
                if key in found:
                    return None  # two answers to "who are you" are none
                found[key] = value.decode("latin-1")
        minute_text, _, mac = found.get(SIGNATURE, "").partition(".")
        if TENANT not in found or ACTOR not in found or not (minute_text.isascii() and minute_text.isdigit()):
            return None
        minute = int(minute_text[:12])
        if abs(minute - int(self._clock() // 60)) > 1:
            return None
        expected = self._mac(found[TENANT], found[ACTOR], target, minute)
        if not hmac.compare_digest(expected.encode(), mac.encode("latin-1")):
            return None
        return Caller(found[TENANT], found[ACTOR])

    def _mac(self, tenant: str, actor: str, target: str, minute: int) -> str:
        # A header can not contain NUL, so the parts can not be shifted into one another.
        message = f"{tenant}\0{actor}\0{target}\0{minute}".encode()
        return hmac.digest(self._key, message, sha256).hex()


def target_of(scope: _Scope) -> str:
    """Path and query of an ASGI request exactly as received."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    return (raw + b"?" + query if query else raw).decode("latin-1")


class InternalOnly:
    """Pure ASGI guard: a request under ``/internal`` without a valid signature answers 401 and goes no further."""

    def __init__(self, app: _App, auth: InternalAuth) -> None:
        self.app = app
        self.auth = auth

    async def __call__(self, scope: _Scope, receive: Any, send: Any) -> None:
        """ASGI entry; puts the :class:`Caller` into the scope."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self.app(scope, receive, send)
            return
        caller = self.auth.verify(scope["headers"], target_of(scope))
        if caller is None:
            await _refuse(send)
            return
        scope[SCOPE_KEY] = caller
        await self.app(scope, receive, send)


_BODY: Final = (
    b'{"type":"https://nexafi.dev/problems/unauthenticated","title":"Authentication is required",'
    b'"status":401,"detail":"This route answers only signed requests of the installation itself."}'
)


async def _refuse(send: Any) -> None:
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(_BODY)).encode()),
        (b"www-authenticate", b"NexaFi-Internal"),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": _BODY})
