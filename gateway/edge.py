"""Request and answer of the lean path, and the router that leads one to the other.

The routes of the tables do not pass through a web framework: a trie finds the endpoint in some dictionary
look-ups, the principal comes from a cache, and the endpoint returns bytes. Everything that the trie does not
know goes on to the application behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from opentelemetry.metrics import CallbackOptions, Observation

from gateway.intake import FREE_BYTES, Intake
from gateway.principal import Authenticator, Principal
from nexafi import telemetry
from nexafi.http import App, Receive, Scope, Send, send_problem
from nexafi.ids import is_id
from nexafi.problems import ProblemError
from schemas.common.scopes import grants

#: Scope of a route that every authenticated principal may use for what is its tenant's own.
ANY_PRINCIPAL: Final = ""
RawHeaders = list[tuple[bytes, bytes]]
JSON: Final = (b"content-type", b"application/json")
#: Whoever stands between could take the other one of two.
_SINGLE: Final = frozenset(
    {b"authorization", b"x-api-key", b"idempotency-key", b"content-type", b"content-length", b"host"}
)
#: Every so many requests one is measured; a measurement costs 6 us.
_MEASURE_EVERY: Final = 8


@dataclass(slots=True)
class Request:
    """A request whose route is known and whose principal has the route's scope."""

    scope: Scope
    receive: Receive
    headers: Mapping[bytes, bytes]
    params: dict[str, str]
    principal: Principal
    intake: Intake
    traceparent: str = ""
    held: int = 0

    @property
    def path(self) -> str:
        """The concrete path."""
        path: str = self.scope["path"]
        return path

    def header(self, name: bytes) -> str:
        """A header as text; ``""`` when absent."""
        return self.headers.get(name, b"").decode("latin-1")

    async def body(self, limit: int | None = None) -> bytes:
        """The whole body of at most ``limit`` bytes; without one the shell's bound holds. 413 as soon as it is more."""
        parts: list[bytes] = []
        size, more = 0, True
        if limit is not None and self._announced() > limit:
            raise _too_large(limit)
        while more:
            message = await self.receive()
            if message["type"] != "http.request":
                raise ClientGoneError
            part: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(part)
            if limit is not None and size > limit:
                raise _too_large(limit)
            if more or size > FREE_BYTES:
                self.held += self.intake.take(len(part))
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _announced(self) -> int:
        return int(self.headers.get(b"content-length", b"0"))  # the shell has seen that it is a number


def _too_large(limit: int) -> ProblemError:
    return ProblemError("body-too-large", f"The body of one command has at most {limit} bytes.", pointer="")


class ClientGoneError(Exception):
    """The client left before its request was complete; nobody is there to be answered."""


class Answer(NamedTuple):
    """A complete answer."""

    status: int
    headers: RawHeaders
    body: bytes


@dataclass(slots=True)
class Stream:
    """An answer that is sent as it comes into being; ``done`` is called however it ends."""

    headers: RawHeaders
    chunks: AsyncGenerator[bytes, None]
    done: Callable[[], None]


class Endpoint(Protocol):
    """What a route leads to."""

    async def __call__(self, request: Request) -> Answer | Stream:
        """Answer, or raise :class:`ProblemError`."""


@dataclass(slots=True)
class _Route:
    template: str
    scope: str
    endpoint: Endpoint
    parameters: tuple[str, ...]
    requests: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Node:
    static: dict[str, _Node] = field(default_factory=dict)
    any: _Node | None = None
    routes: dict[str, _Route] = field(default_factory=dict)


_TIME: Final = telemetry.histogram(
    "nexafi.gateway.request.time", "Time to answer; one request in eight is measured.", "s"
)


class Router:
    """ASGI: the routes of the lean path, then ``fallback``."""

    def __init__(self, auth: Authenticator, fallback: App) -> None:
        self.auth = auth
        self.fallback = fallback
        self.intake = Intake()
        self._root = _Node()
        self._routes: list[tuple[str, _Route]] = []
        self._count = 0

    def add(
        self, method: str, template: str, scope: str, endpoint: Endpoint, *, any_id: bool = False
    ) -> None:
        """Lead ``method template`` to ``endpoint`` for principals with ``scope``.

        Parameters must be NexaFi ids, unless ``any_id``: what can not be an id does not exist.
        """
        node, names = self._root, []
        for part in template.strip("/").split("/"):
            if part.startswith("{"):
                names.append(part[1:-1])
                node.any = node.any or _Node()
                node = node.any
            else:
                node = node.static.setdefault(part, _Node())
        route = _Route(template, scope, endpoint, () if any_id else tuple(names))
        if any_id:
            route.parameters = tuple(f"*{name}" for name in names)
        assert method not in node.routes, f"{method} {template} is there twice"
        node.routes[method] = route
        self._routes.append((method, route))

    def observe(self, _options: CallbackOptions) -> list[Observation]:
        """Requests so far, by route and status."""
        return [
            Observation(n, {"method": method, "route": route.template, "status": status})
            for method, route in self._routes
            for status, n in list(route.requests.items())
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        node = None
        if scope["type"] == "http":
            values: list[str] = []
            node = self._find(scope["path"], values)
        if node is None or not node.routes:
            await self.fallback(scope, receive, send)
            return
        route = node.routes.get(scope["method"])
        if route is None:
            allow = ", ".join(sorted(node.routes))
            await send_problem(send, ProblemError("method-not-allowed", headers={"Allow": allow}))
            return
        scope["nexafi.route"] = route.template
        self._count += 1
        started = time.perf_counter() if self._count % _MEASURE_EVERY == 0 else 0.0
        status = 500
        try:
            status = await self._answer(route, values, scope, receive, send)
        except ProblemError as problem:
            status = problem.status
            raise
        except ClientGoneError:
            status = 499
        finally:
            route.requests[status] = route.requests.get(status, 0) + 1
            if started:
                _TIME.record(time.perf_counter() - started, {"route": route.template})

    async def _answer(
        self, route: _Route, values: list[str], scope: Scope, receive: Receive, send: Send
    ) -> int:
        headers = headers_of(scope)
        principal = self.auth.known(headers) or await self.auth.authenticate(headers)
        if route.scope and route.scope not in principal.scopes and not grants(principal.scopes, route.scope):
            raise ProblemError(
                "forbidden",
                f"This needs the scope {route.scope}.",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{route.scope}"'},
            )
        params: dict[str, str] = {}
        for name, value in zip(route.parameters, values, strict=True):
            if name[0] == "*":
                params[name[1:]] = value
            elif is_id(value):
                params[name] = value
            else:
                raise ProblemError("not-found")
        request = Request(scope, receive, headers, params, principal, self.intake)
        if b"traceparent" in headers:
            request.traceparent = telemetry.clean(request.header(b"traceparent"))
        try:
            answer = await _worked_on(route, request)
        finally:
            if request.held:
                self.intake.give(request.held)
        if isinstance(answer, Stream):
            return await _stream(answer, receive, send)
        status, raw, body = answer
        raw.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})
        return status

    def _find(self, path: str, values: list[str]) -> _Node | None:
        node: _Node | None = self._root
        for part in path[1:].split("/"):
            assert node is not None
            child = node.static.get(part)
            if child is None:
                child = node.any
                if child is None or not part:
                    return None
                values.append(part)
            node = child
        return node


async def _worked_on(route: _Route, request: Request) -> Answer | Stream:
    span = telemetry.begin(route.template, request.traceparent, attributes={"http.route": route.template})
    if span is None:
        return await route.endpoint(request)
    request.traceparent = telemetry.traceparent_of(span)
    try:
        return await route.endpoint(request)
    finally:
        span.end()


async def _stream(stream: Stream, receive: Receive, send: Send) -> int:
    """Send until the chunks end or the client leaves, whichever is first: an idle stream would not notice."""
    sending = asyncio.create_task(_send_chunks(stream, send))
    leaving = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        finished = sending.done()
        sending.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)
        await stream.chunks.aclose()
        stream.done()
    if not finished:
        return 499
    sending.result()
    return 200


async def _send_chunks(stream: Stream, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": stream.headers})
    async for chunk in stream.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


Handler = Callable[[Request], Awaitable[Answer | Stream]]


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Headers by name. Lines of one name are a list (RFC 9110, 5.3), unless there can be only one value."""
    lines: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(lines)
    if len(headers) == len(lines):
        return headers
    headers.clear()
    for name, value in lines:
        if name in headers:
            if name in _SINGLE:
                raise ProblemError(
                    "malformed-request", "A header is given twice.", pointer=name.decode("latin-1").title()
                )
            value = headers[name] + b", " + value  # noqa: PLW2901 - the line is part of a longer value
        headers[name] = value
    return headers


def query_of(scope: Scope) -> dict[str, Any]:
    """Query parameters; a parameter given twice is refused."""
    from urllib.parse import parse_qsl

    try:
        pairs = parse_qsl(
            scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            max_num_fields=32,
            strict_parsing=False,
        )
    except (ValueError, UnicodeDecodeError):
        raise ProblemError("invalid-parameter", "The query can not be read.") from None
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ProblemError("invalid-parameter", "A query parameter is given twice.")
    return out
