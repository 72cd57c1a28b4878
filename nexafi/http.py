"""How every process of NexaFi serves HTTP: bounds, health, problems and a graceful end.

``serve(app, port, ctx)`` runs an ASGI application until ``ctx.stop`` is set, then drains. Around the
application lies :class:`Shell`, one pure ASGI layer: it answers ``/healthz``, ``/readyz`` and
``/metrics``, refuses what is too large before it is read, guards ``/internal`` (see
:mod:`nexafi.internal_auth`) and turns every error into problem+json.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Final

import orjson
import structlog
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from nexafi import problems, telemetry
from nexafi.http_protocol import Limits, protocol_with, sweep
from nexafi.internal_auth import InternalAuth, InternalOnly
from nexafi.problems import ProblemError
from nexafi.role import Health, RoleContext
from schemas.common.problems import MEDIA_TYPE

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Headers of every answer.
_ALWAYS: Final = [("x-content-type-options", "nosniff"), ("cache-control", "no-store")]
_BODYLESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: A refused body is read and dropped up to here, so that the client gets to see the refusal.
_LINGER_BYTES: Final = 16 * 1024 * 1024
_LINGER_S: Final = 2.0
_CORRELATION: Final = "nexafi.correlation"

log = structlog.get_logger("nexafi.http")


class _BodyTooLargeError(Exception):
    """A streamed body passed the bound while the application was reading it."""


def unexpected(scope: Scope) -> ProblemError:
    """The problem for an error that nobody foresaw; the same correlation id for the whole request."""
    correlation = scope.setdefault(_CORRELATION, os.urandom(12).hex())
    return ProblemError(
        "internal-error",
        "The error was recorded; name the correlation id when you ask about it.",
        extra={"correlation_id": correlation},
    )


class Shell:
    """The outermost ASGI layer of every server."""

    def __init__(self, app: App, ctx: RoleContext, limits: Limits) -> None:
        self.app = app
        self.ctx = ctx
        self.limits = limits
        self.open_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        kind = scope["type"]
        if kind != "http":
            if kind == "lifespan":
                await self.app(scope, receive, send)
            else:  # websocket: nothing speaks it
                await send({"type": "websocket.close", "code": 1000})
            return
        path = scope["path"]
        if path in _OWN:
            await self._own(path, scope["method"], send)
            return
        if self.open_requests >= self.limits.max_requests:
            await send_problem(send, ProblemError("overloaded", headers={"Retry-After": "1"}))
            return
        self.open_requests += 1
        try:
            if scope["method"] in _BODYLESS:
                await self._run(scope, receive, send)
            else:
                await self._with_body(scope, receive, send)
        finally:
            self.open_requests -= 1

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = self.limits.max_body_bytes
        length: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = value
                break
        if length is None:
            await self._streamed(scope, receive, send)
        elif length.isdigit() and int(length[:20]) <= limit:
            await self._run(scope, receive, send)  # the server hands over no more than was announced
        else:
            await _refuse_large(receive, send, limit)

    async def _streamed(self, scope: Scope, receive: Receive, send: Send) -> None:
        counted = _Counted(receive, self.limits.max_body_bytes)
        started = False

        async def unless_exceeded(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            if started or not counted.exceeded:  # whatever the application makes of it, the answer is 413
                started = True
                await send(message)

        await self._run(scope, counted, unless_exceeded)
        if counted.exceeded and not started:
            await _refuse_large(receive, send, self.limits.max_body_bytes)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def tracked(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, tracked)
        except ProblemError as problem:
            if started:
                raise
            await send_problem(send, problem)
        except (ClientDisconnect, _BodyTooLargeError):
            return  # nobody is there to be answered, or the answer follows
        except Exception as error:  # noqa: BLE001 - the last layer: whatever it is becomes a problem
            await self._unexpected(error, scope, send, started=started)

    async def _unexpected(self, error: Exception, scope: Scope, send: Send, *, started: bool) -> None:
        problem = unexpected(scope)
        route = scope.get("nexafi.route") or getattr(scope.get("route"), "path", "")
        log.error("unexpected error", correlation_id=scope[_CORRELATION], route=route, exc_info=error)
        if not started:
            await send_problem(send, problem)

    async def _own(self, path: str, method: str, send: Send) -> None:
        if method not in {"GET", "HEAD"}:
            await send_problem(send, ProblemError("method-not-allowed", headers={"Allow": "GET, HEAD"}))
            return
        status, media, body = _OWN[path](self.ctx.health)
        headers = [(b"content-type", media), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


class _Counted:
    """``receive`` of a body whose length was not announced."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self.receive = receive
        self.left = limit

    @property
    def exceeded(self) -> bool:
        return self.left < 0

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self.receive()
        if message["type"] == "http.request":
            self.left -= len(message.get("body", b""))
            if self.exceeded:
                raise _BodyTooLargeError
        return message


def _healthz(_health: Health) -> tuple[int, bytes, bytes]:
    return 200, b"application/json", b'{"status":"alive"}'


def _readyz(health: Health) -> tuple[int, bytes, bytes]:
    ready = health.ready
    body = {"ready": ready, "problems": health.problems, "details": health.details}
    return 200 if ready else 503, b"application/json", orjson.dumps(body, default=str)


def _metrics(_health: Health) -> tuple[int, bytes, bytes]:
    return 200, b"text/plain; version=0.0.4; charset=utf-8", telemetry.prometheus_text()


_OWN: Final[dict[str, Callable[[Health], tuple[int, bytes, bytes]]]] = {
    "/healthz": _healthz,
    "/readyz": _readyz,
    "/metrics": _metrics,
}


async def send_problem(send: Send, problem: ProblemError) -> None:
    """Answer with a problem."""
    body = problem.body()
    headers = [*problem.raw_headers(), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse_large(receive: Receive, send: Send, limit: int) -> None:
    """Answer 413 before the body has come, then drop what still arrives, within bounds, and close."""
    problem = ProblemError(
        "body-too-large", f"A body has at most {limit} bytes.", pointer="", headers={"Connection": "close"}
    )
    body = problem.body()
    headers = [*problem.raw_headers(), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    dropped = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while dropped < _LINGER_BYTES:
                message = await receive()
                dropped += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    break
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def problem_response(problem: ProblemError) -> Response:
    """The problem as a Starlette response."""
    headers = {"content-type": MEDIA_TYPE, **problem.headers}
    return Response(problem.body(), status_code=problem.status, headers=headers)


def install_problem_handlers(app: FastAPI) -> None:
    """Every error that FastAPI knows becomes a problem of RFC 9457."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(
        Exception, _on_unexpected
    )  # Starlette answers with it, then raises to the shell


async def _on_unexpected(request: Request, _error: Exception) -> Response:
    return problem_response(unexpected(request.scope))


async def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_response(error)


async def _on_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors: list[Any] = list(error.errors())
    where, *rest = errors[0]["loc"]
    if where == "body":
        stripped = [e | {"loc": e["loc"][1:]} for e in errors if e["loc"][0] == "body"]
        return problem_response(problems.validation_problem(stripped))
    if where == "path":  # what has no valid name does not exist
        return problem_response(ProblemError("not-found"))
    name = str(rest[0]) if rest else ""
    pointer = f"?{name}" if where == "query" else name
    return problem_response(ProblemError("invalid-parameter", errors[0]["msg"][:200], pointer=pointer))


async def _on_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    slug = problems.BY_STATUS.get(error.status_code)
    if slug is None:
        slug = "internal-error" if error.status_code >= 500 else "malformed-request"
    return problem_response(ProblemError(slug, status=error.status_code, headers=dict(error.headers or {})))


class _Server(uvicorn.Server):
    """Leaves signals, and the end of the process, to whoever started it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
            self.up.set()
        except SystemExit:  # would end the event loop, and every other role of the process with it
            raise RuntimeError("the application refused to start; its reason is in the log above") from None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; ``OSError`` when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


async def serve(
    app: App,
    port: int,
    ctx: RoleContext,
    *,
    host: str | None = None,
    name: str | None = None,
    limits: Limits | None = None,
) -> None:
    """Serve ``app`` on ``port`` until ``ctx.stop`` is set, then drain for at most ``limits.drain_s``.

    Readiness goes first: after ``stop`` new connections are still taken for ``settings.drain_delay_s``, the time
    that a load balancer needs to see that this process is not ready any more.
    ``name`` is the condition in ``ctx.health``. Requests under ``/internal`` must be signed.
    """
    limits = limits or Limits(max_body_bytes=ctx.settings.max_body_bytes)
    condition = name or f"http:{port}"
    ctx.health.expect(condition)
    if isinstance(app, FastAPI):
        install_problem_handlers(app)
    shell = Shell(InternalOnly(app, InternalAuth.of(ctx.settings)), ctx, limits)
    listener = listen(host or ctx.settings.host, port)
    server = _Server(
        uvicorn.Config(
            shell,
            http=protocol_with(limits),
            ws="none",
            loop="none",
            lifespan="auto",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            headers=_ALWAYS,
            timeout_keep_alive=limits.keep_alive_s,
            timeout_graceful_shutdown=limits.drain_s,
        )
    )
    running = asyncio.create_task(server.serve([listener]), name=f"http-{port}")
    sweeper = asyncio.create_task(sweep(server.server_state.connections), name=f"http-sweep-{port}")
    up = asyncio.create_task(server.up.wait(), name=f"http-up-{port}")
    stopping = asyncio.create_task(ctx.stop.wait(), name=f"http-stop-{port}")
    try:
        await asyncio.wait({running, up}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            ctx.health.ok(condition)
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            ctx.health.bad(condition, "draining")
            await asyncio.wait({running}, timeout=ctx.settings.drain_delay_s)
            server.should_exit = True
        await running
    finally:
        server.should_exit = True
        for task in (sweeper, stopping, up):
            task.cancel()
        await asyncio.gather(running, sweeper, stopping, up, return_exceptions=True)
        listener.close()


async def serve_health(ctx: RoleContext, port: int, *, host: str | None = None) -> None:
    """Serve only ``/healthz``, ``/readyz`` and ``/metrics``: for processes without an API."""
    await serve(_nothing, port, ctx, host=host, name=f"health:{port}")


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ProblemError("not-found")
