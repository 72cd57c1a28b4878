"""A command over HTTP: read, named, sent, and answered as soon as its result is known.

The id of a command follows from who sends what where under which ``Idempotency-Key``; sending it twice is
sending it once. The answer is 202 with an operation, or with ``Prefer: wait=<seconds>`` the result itself.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import orjson
import structlog
from aiokafka.errors import KafkaError

from gateway.bodies import BodyModel, Digests
from gateway.edge import JSON, Answer, RawHeaders, Request
from gateway.flights import Flight, Flights, log_unavailable, reused
from gateway.lanes import PLACE_BYTES
from gateway.operations import (
    Operation,
    OperationIds,
    ResultLookup,
    representation,
    stored_result,
    token_header,
)
from gateway.reasons import refusal
from gateway.routes import CommandRoute
from nexafi.credentials import API_KEY, CLIENT_SECRET, CredentialKeys, visible_prefix
from nexafi.ids import command_id, partition_for, shard_of
from nexafi.problems import ProblemError
from nexafi.settings import Settings
from schemas.common import tokens
from schemas.common.envelope import CommandEnvelope
from schemas.common.outcomes import CommandResult
from schemas.common.scopes import grants, is_known_scope

log = structlog.get_logger(__name__)

MAX_WAIT_S: Final = 30.0
MAX_KEY_CHARS: Final = 255
_KEY: Final = re.compile(rb"[\x21-\x7e]+")
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?\s*(?:[,;]|$)", re.IGNORECASE)
_TOKEN: Final = tokens.HEADER.lower().encode()
#: A position that takes as much room in a token as any can.
_ANY_SOURCE: Final = f"{'x' * 32}/1023"
_ANY_POSITION: Final = 2**63 - 1


class Producer(Protocol):
    """Where commands go; :class:`events.producer.CommandProducer`."""

    def post(
        self, service: str, shard: int, key: bytes, data: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> asyncio.Future[None]:
        """Send without waiting; the future ends when Kafka has the command for good, or can not be reached."""


class Desk:
    """What every command route shares: keys, the way to Kafka, and commands under way."""

    def __init__(
        self, settings: Settings, producer: Producer, flights: Flights, reply_to: str, services: ResultLookup
    ) -> None:
        key = settings.hmac_key.get_secret_value().encode()
        self.settings = settings
        self.flights = flights
        self.reply_to = reply_to
        self.services = services
        self.digests = Digests(key)
        self.operations = OperationIds(key)
        self.secrets = CredentialKeys(key)
        self._producer = producer
        self._log_down_until = 0.0

    def send(self, flight: Flight, service: str, shard: int, envelope: CommandEnvelope, data: bytes) -> None:
        """Produce; the flight hears the answer, or fails when Kafka does not acknowledge.

        Raises the ``log-unavailable`` problem at once while Kafka is known to be away. A command that was not
        acknowledged may still arrive. That is why the problem says: send the same again.
        """
        if self._log_down_until and time.monotonic() < self._log_down_until:
            problem = log_unavailable()
            self.flights.fail(flight, problem)
            raise problem
        try:
            sent = self._producer.post(service, shard, envelope.id.encode(), data, envelope.headers())
        except (KafkaError, OSError) as error:
            self._away()
            problem = log_unavailable()
            self.flights.fail(flight, problem)
            raise problem from error
        flight.delivery = sent
        sent.add_done_callback(flight.sent)
        sent.add_done_callback(self._noticed)

    def _noticed(self, sent: asyncio.Future[None]) -> None:
        if sent.cancelled():
            return
        error = sent.exception()
        if error is None:
            self._log_down_until = 0.0
        else:
            self._away()

    def _away(self) -> None:
        """One in half a second tries; the others hear at once."""
        self._log_down_until = time.monotonic() + 0.5


class CommandEndpoint:
    """One route of :data:`gateway.routes.COMMANDS`."""

    def __init__(self, route: CommandRoute, desk: Desk) -> None:
        self.route = route
        self.desk = desk
        self.body = BodyModel(route)
        self._type = route.command.TYPE
        self._shards = desk.settings.shard_count(route.service)

    async def __call__(self, request: Request) -> Answer:
        """Send the command and answer."""
        route, desk, principal = self.route, self.desk, request.principal
        seen = seen_token(request)
        key = idempotency_key(request)
        wait_s = preferred_wait(request)
        body = await request.body(self.body.limit)
        identifier = command_id(principal.tenant, principal.actor, route.method, request.path, key)
        shard = self.shard(identifier, request.params)
        weight = 1 + len(body) // PLACE_BYTES
        if identifier not in desk.flights:
            # Before anything that costs: what is too much must be refused quickly.
            desk.flights.room(f"{route.service}/{shard}", principal.tenant, weight)
        value = self.body.read(_checked(request, body))
        issued = self._issue(identifier, value, request) if route.issues else None
        data = self.body.data(value, request.params, issued[1] if issued else None)
        digest = desk.digests.of(self._type, data)
        operation = desk.operations.make(route.service, shard, identifier, principal.tenant, digest)

        flight = desk.flights.find(identifier, digest)
        if flight is None:
            flight = self._send(request, identifier, shard, data, digest, weight)
        elif flight.failure is not None:
            raise flight.failure
        result = await desk.flights.wait(flight, wait_s) if wait_s else await desk.flights.sent(flight)
        if result is None and wait_s:
            # The reply was only a hint. Look once before sending the caller away.
            result = await self._stored(Operation(route.service, shard, identifier, digest))
        return self._answer(request, operation, result, wait_s, seen, issued[0] if issued else None)

    def shard(self, identifier: str, params: dict[str, str]) -> int:
        """The shard that decides: in the id in the path, or that of a creating command."""
        if self.route.shard_from is None:
            return partition_for(identifier, self._shards)
        shard = shard_of(params[self.route.shard_from])
        if shard >= self._shards:
            raise ProblemError("not-found")
        return shard

    def _send(
        self, request: Request, identifier: str, shard: int, data: bytes, digest: str, weight: int
    ) -> Flight:
        desk, principal = self.desk, request.principal
        lane = f"{self.route.service}/{shard}"
        flight = desk.flights.depart(identifier, digest, lane, principal.tenant, weight=weight)
        envelope = CommandEnvelope(
            identifier,
            self._type,
            principal.tenant,
            principal.actor,
            digest,
            desk.reply_to,
            traceparent=request.traceparent,
            time_us=time.time_ns() // 1000,
        )
        desk.send(flight, self.route.service, shard, envelope, data)
        return flight

    async def _stored(self, operation: Operation) -> CommandResult | None:
        try:
            return await stored_result(self.desk.services, operation, timeout_s=1.0)
        except ProblemError:
            return None  # the caller gets the 202, which is true in any case

    def _answer(
        self,
        request: Request,
        operation: str,
        result: CommandResult | None,
        wait_s: float,
        seen: str,
        secret: dict[str, str] | None,
    ) -> Answer:
        if result is not None and result.conflict:
            raise reused()
        where = f"/v1/operations/{operation}".encode()
        if result is None or not wait_s:
            headers: RawHeaders = [JSON, (b"location", where), (b"retry-after", b"1")]
            headers.append((_TOKEN, (seen or tokens.encode({})).encode()))
            return Answer(202, headers, _with(representation(operation, None), secret))
        applied = b"wait=%d" % int(wait_s)
        if result.outcome == "rejected":
            problem = refusal(result.result, wrap=self.route.wrap, path_fields=self.body.path_fields)
            problem.extra["operation"] = operation
            headers = [*problem.raw_headers(), (b"preference-applied", applied), token_header(result, seen)]
            return Answer(problem.status, headers, problem.body())
        headers = [JSON, (b"preference-applied", applied), token_header(result, seen)]
        if self.route.location is not None:
            place = self.route.location.format_map({**request.params, **result.result})
            headers.append((b"location", place.encode()))
        headers.append((b"operation-location", where))
        return Answer(self.route.status, headers, _with(representation(operation, result), secret))

    def _issue(self, identifier: str, value: Any, request: Request) -> tuple[dict[str, str], dict[str, str]]:
        """A secret for the caller, and what of it goes into the command."""
        scopes = request.principal.scopes
        for index, scope in enumerate(value.scopes):
            if not is_known_scope(scope):
                raise ProblemError(
                    "unknown-scope", "There is no such scope.", pointer=f"/scopes/{index}", status=422
                )
            if scope not in scopes and (scope.endswith(":*") or not grants(scopes, scope)):
                raise ProblemError(
                    "forbidden", "Nobody can grant a scope that he does not have.", pointer=f"/scopes/{index}"
                )
        secrets = self.desk.secrets
        if self.route.issues == "client-secret":
            secret = secrets.secret(CLIENT_SECRET, identifier)
            return {"client_secret": secret}, {"secret_hash": secrets.hash(secret)}
        secret = secrets.secret(API_KEY, identifier)
        return {"api_key": secret}, {"prefix": visible_prefix(secret), "key_hash": secrets.hash(secret)}


def _with(body: bytes, secret: dict[str, str] | None) -> bytes:
    return body if secret is None else body[:-1] + b"," + orjson.dumps(secret)[1:]


def seen_token(request: Request, added: Iterable[str] = (_ANY_SOURCE,)) -> str:
    """The caller's consistency token, merged into one, with room for the sources that the answer may add.

    Checked before anything is sent: an answer that could not be given would leave its command in the dark.
    """
    raw = request.headers.get(_TOKEN)
    if not raw:
        return ""
    try:
        positions = tokens.decode(raw.decode("latin-1"))
        tokens.encode({**positions, **dict.fromkeys(added, _ANY_POSITION)})
        return tokens.encode(positions)
    except ValueError as error:
        raise ProblemError("invalid-consistency-token", str(error), pointer=tokens.HEADER) from None


def _checked(request: Request, body: bytes) -> bytes:
    kind = request.headers.get(b"content-type")
    if kind is None:
        if body:
            raise ProblemError("unsupported-media-type", "Send application/json.", pointer="Content-Type")
    elif kind.partition(b";")[0].strip().lower() != b"application/json":
        raise ProblemError("unsupported-media-type", "Send application/json.", pointer="Content-Type")
    return body


def idempotency_key(request: Request) -> str:
    """The caller's key: 1 to 255 visible ASCII characters, with or without the quotes of a structured field."""
    raw = request.headers.get(b"idempotency-key")
    if raw is None:
        raise ProblemError(
            "idempotency-key-required",
            "Send a key of your own with every command; a retry with the same key happens once.",
            pointer="Idempotency-Key",
        )
    key = raw[1:-1] if len(raw) > 1 and raw[:1] == raw[-1:] == b'"' else raw
    if len(key) > MAX_KEY_CHARS or not _KEY.fullmatch(key):
        raise ProblemError(
            "idempotency-key-invalid",
            f"A key has 1 to {MAX_KEY_CHARS} visible ASCII characters.",
            pointer="Idempotency-Key",
        )
    return key.decode()


def preferred_wait(request: Request) -> float:
    """Seconds of ``Prefer: wait=<n>`` (RFC 7240), at most :data:`MAX_WAIT_S`; 0 without."""
    raw = request.headers.get(b"prefer")
    if raw is None:
        return 0.0
    match = _WAIT.search(raw.decode("latin-1"))
    return min(float(match.group(1)), MAX_WAIT_S) if match else 0.0
