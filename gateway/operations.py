"""Operations: what became of a command, asked by an id that proves it was issued here.

``service.shard.command_id.digest.mac``; the mac binds the id to the tenant, so an id that was made up, or is another
tenant's, is as absent as any other (404), and a valid one without a result is pending. ``digest`` begins the digest
of the request: whoever sent something else under the same key holds another id, and hears of the conflict instead of
the other request's result. Ids of 0.1.0 have none, and are answered as they were.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol

import orjson

from gateway.edge import JSON, Answer, RawHeaders, Request
from gateway.flights import reused
from gateway.reasons import refusal
from gateway.upstream import Reply, away
from nexafi.problems import ProblemError
from schemas.common import tokens
from schemas.common.outcomes import CommandResult

_FORM: Final = re.compile(
    r"([a-z][a-z-]{0,31})\.(0|[1-9][0-9]{0,3})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"(?:\.([0-9a-f]{16}))?\.([A-Za-z0-9_-]{22})"
)
#: Hex digits of a request's digest in an operation's id. It need only differ between requests of one caller.
_DIGEST_CHARS: Final = 16
_TOKEN: Final = tokens.HEADER.lower().encode()


class Operation(NamedTuple):
    """A verified operation id. ``digest`` is the request's, or its beginning; ``""`` in an id of 0.1.0."""

    service: str
    shard: int
    command_id: str
    digest: str = ""


class OperationIds:
    """Makes and verifies operation ids."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, b"nexafi/operation-id/v1", sha256)

    def make(self, service: str, shard: int, command_id: str, tenant: str, digest: str) -> str:
        """The id of a command of this tenant, sent with a request of this ``digest`` (hex)."""
        name = f"{service}.{shard}.{command_id}.{digest[:_DIGEST_CHARS]}"
        return f"{name}.{self._mac(name, tenant)}"

    def read(self, identifier: str, tenant: str) -> Operation:
        """The operation of an id that was made for this tenant; every other text is a 404 problem."""
        match = _FORM.fullmatch(identifier)
        if match is None:
            raise ProblemError("not-found")
        service, shard, command_id, digest, mac = match.groups()
        expected = self._mac(identifier.rpartition(".")[0], tenant)
        if not hmac.compare_digest(expected, mac):
            raise ProblemError("not-found")
        return Operation(service, int(shard), command_id, digest or "")

    def _mac(self, name: str, tenant: str) -> str:
        digest = hmac.digest(self._key, f"{tenant}\0{name}".encode(), sha256)[:16]
        return urlsafe_b64encode(digest).rstrip(b"=").decode()


class ResultLookup(Protocol):
    """Reads of a service; :class:`gateway.upstream.Services`."""

    async def get(
        self, service: str, target: str, *, tenant: str, actor: str, timeout_s: float = ...
    ) -> Reply:
        """``GET target``."""


async def stored_result(
    services: ResultLookup, operation: Operation, *, timeout_s: float = 3.0
) -> CommandResult | None:
    """The permanent answer to a command, asked of the service that owns it; ``None``: there is none yet.

    The answer to another request under the same key, by the operation's ``digest``, is a conflict.
    """
    target = f"/internal/results/{operation.command_id}?shard={operation.shard}"
    if operation.digest:
        target += f"&digest={operation.digest}"
    reply = await services.get(
        operation.service, target, tenant="", actor="system:gateway", timeout_s=timeout_s
    )
    if reply.status == 404:
        return None
    if reply.status != 200:
        raise away(operation.service)
    return CommandResult.model_construct(**orjson.loads(reply.body))


def representation(
    identifier: str, result: CommandResult | None, problem: ProblemError | None = None
) -> bytes:
    """JSON bytes of an operation."""
    body: dict[str, Any] = {"id": identifier, "status": "pending"}
    if result is not None:
        body["status"] = result.outcome
        if result.conflict:
            body["problem"] = orjson.loads(reused().body())
        elif result.outcome == "accepted":
            body["result"] = result.result
        else:
            body["problem"] = orjson.loads((problem or refusal(result.result)).body())
    return orjson.dumps(body)


def token_header(result: CommandResult, seen: str = "") -> tuple[bytes, bytes]:
    """The consistency token of an answer; ``seen`` is what the caller brought, merged in."""
    if not seen:
        return _TOKEN, tokens.one(result.service, result.shard, result.position).encode()
    merged = tokens.decode(seen)
    tokens.merge_into(merged, {f"{result.service}/{result.shard}": result.position})
    return _TOKEN, tokens.encode(merged).encode()


class GetOperation:
    """``GET /v1/operations/{id}``."""

    def __init__(self, ids: OperationIds, services: ResultLookup) -> None:
        self._ids = ids
        self._services = services

    async def __call__(self, request: Request) -> Answer:
        """The operation as it stands now."""
        identifier = request.params["operation_id"]
        operation = self._ids.read(identifier, request.principal.tenant)
        result = await stored_result(self._services, operation)
        headers: RawHeaders = [JSON]
        if result is None:
            headers.append((b"retry-after", b"1"))
        else:
            headers.append(token_header(result))
        return Answer(200, headers, representation(identifier, result))
