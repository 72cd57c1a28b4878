"""Events over HTTP as server-sent events (WHATWG HTML, section 9.2), resumable without loss or repetition.

Each event's ``id`` is a consistency token; sent back as ``Last-Event-ID`` the stream goes on behind it. A stream
ends with an event named ``end`` that says why. Only events of the caller's tenant are there, and of these only
those of services that the caller may read.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final

import orjson
import structlog

from events.subscription import RawEvent
from gateway.edge import Request, Stream, query_of
from gateway.feed import Event, Feed, Histories
from gateway.hub import SERVICES, Hub, Listener, ending
from gateway.operations import Operation, OperationIds, representation, stored_result
from gateway.principal import Authenticator
from gateway.trail import Trail
from nexafi.problems import ProblemError
from schemas.common import tokens
from schemas.common.outcomes import CommandResult
from schemas.common.scopes import grants
from schemas.compliance.events import EVENTS as COMPLIANCE
from schemas.ledger.events import EVENTS as LEDGER
from schemas.payments.events import EVENTS as PAYMENTS

log = structlog.get_logger(__name__)

SCOPE: Final = "events:read"
KEEP_ALIVE_S: Final = 10.0
#: A revoked credential ends its streams within this long (and what the gateway's cache of credentials adds).
CHECK_S: Final = 2.0
MAX_TYPES: Final = 64
#: Stored events of an operation that are put in order of time.
MAX_HELD: Final = 1_000
_RETRY_MS: Final = 1_000
_RESULT_FIRST_S: Final = 0.1
_RESULT_MAX_S: Final = 1.0
_HEADERS: Final = ((b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no"))
_LAST_ID: Final = "Last-Event-ID"
_CORRELATION: Final = re.compile(r"[0-9a-zA-Z_.:-]{1,64}")
_TYPES: Final = frozenset([*LEDGER, *PAYMENTS, *COMPLIANCE, *(f"{s}.command-refused.v1" for s in SERVICES)])


class _Streams:
    """What both routes share."""

    def __init__(self, hub: Hub, histories: Histories, auth: Authenticator) -> None:
        self.hub = hub
        self.histories = histories
        self.auth = auth

    def services(self, request: Request) -> list[str]:
        """Services whose events the caller may read."""
        scopes = request.principal.scopes
        found = [s for s in SERVICES if grants(scopes, f"{s}:read")]
        if not found:
            raise ProblemError(
                "forbidden",
                "Events of a service need the scope to read it: " + ", ".join(f"{s}:read" for s in SERVICES),
            )
        return found

    async def live(self, request: Request, feed: Feed) -> AsyncIterator[Event | None]:
        """Events as they arrive, until the listener has ended; ``None`` when it is time for a sign of life."""
        loop = asyncio.get_running_loop()
        checked = spoken = loop.time()
        while feed.listener.ended is None:
            now = loop.time()
            if now - checked >= CHECK_S:
                checked = now
                if not await self.auth.still_valid(request.headers):
                    feed.listener.end("unauthenticated")
                    return
            event = feed.arrived()
            if event is not None:
                spoken = now
                yield event
            elif now - spoken >= KEEP_ALIVE_S:
                spoken = now
                yield None
            else:
                await feed.listener.wait(min(CHECK_S, KEEP_ALIVE_S))

    def answer(self, listener: Listener, chunks: Callable[[], AsyncIterator[bytes]]) -> Stream:
        """The stream of ``chunks`` to a listener that has entered; the place is given back at its end."""

        async def guarded() -> AsyncGenerator[bytes, None]:
            try:
                async for chunk in chunks():
                    yield chunk
            except ProblemError as problem:  # a service is away; the head of the answer is out
                log.warning("stream ends", reason=problem.slug)
                listener.end("unavailable")
            if listener.ended is not None:
                yield frame("", orjson.dumps(ending(listener.ended)), "end")

        return Stream(list(_HEADERS), guarded(), lambda: self.hub.leave(listener))


class EventStreamEndpoint(_Streams):
    """``GET /v1/events``."""

    async def __call__(self, request: Request) -> Stream:
        """All events of the tenant, from now on or behind ``Last-Event-ID``."""
        query = query_of(request.scope)
        types, correlation, token = (
            _types(query.pop("types", "")),
            query.pop("correlation", ""),
            last_id(request, query.pop("after", "")),
        )
        if query:
            raise ProblemError(
                "invalid-parameter", "There is no such parameter.", pointer=f"?{next(iter(query))[:64]}"
            )
        if correlation and not _CORRELATION.fullmatch(correlation):
            raise ProblemError("invalid-parameter", "Not an id.", pointer="?correlation")
        services = self.services(request)

        def wanted(kind: str, cause: str) -> bool:
            return types(kind) and correlation in ("", cause) and kind.partition(".")[0] in services

        def raw(event: RawEvent) -> bool:
            return wanted(event.type, event.headers.get("ce_correlationid", b"").decode())

        listener = Listener(request.principal.tenant, raw)
        feed = Feed(
            self.hub,
            self.histories,
            listener,
            request.principal.actor,
            services=services,
            wants=lambda e: wanted(e.type, e.correlation),
            about=lambda: (correlation,) if correlation else (),
        )
        self.hub.enter(listener)
        try:
            await self.hub.join()
            feed.start(await feed.heads(), token)
        except BaseException:
            self.hub.leave(listener)
            raise
        return self.answer(listener, lambda: self._chunks(request, feed))

    async def _chunks(self, request: Request, feed: Feed) -> AsyncIterator[bytes]:
        yield b"retry: %d\nid: %b\n\n" % (_RETRY_MS, feed.token.encode())
        async for event in feed.history():
            if feed.listener.ended is not None:
                return
            yield frame(feed.token, event.body)
        async for arrived in self.live(request, feed):
            yield frame(feed.token, arrived.body) if arrived else sign_of_life(feed.token)


class OperationEventsEndpoint(_Streams):
    """``GET /v1/operations/{id}/events``: what a command caused, until that has ended."""

    def __init__(self, hub: Hub, histories: Histories, auth: Authenticator, ids: OperationIds) -> None:
        super().__init__(hub, histories, auth)
        self._ids = ids

    async def __call__(self, request: Request) -> Stream:
        """The operation's outcome, the events that followed from it, and its end."""
        identifier = request.params["operation_id"]
        operation = self._ids.read(identifier, request.principal.tenant)
        query = query_of(request.scope)
        token = last_id(request, query.pop("after", ""))
        if query:
            raise ProblemError(
                "invalid-parameter", "There is no such parameter.", pointer=f"?{next(iter(query))[:64]}"
            )
        trail = Trail(operation.command_id)
        listener = Listener(request.principal.tenant, trail.concerns_raw)
        feed = Feed(
            self.hub,
            self.histories,
            listener,
            request.principal.actor,
            services=self.services(request),
            wants=trail.concerns,
            about=trail.ids,
        )
        self.hub.enter(listener)
        return self.answer(listener, lambda: self._chunks(request, operation, identifier, feed, trail, token))

    async def _chunks(
        self,
        request: Request,
        operation: Operation,
        identifier: str,
        feed: Feed,
        trail: Trail,
        token: tokens.Positions,
    ) -> AsyncIterator[bytes]:
        yield b"retry: %d\n\n" % _RETRY_MS
        result: CommandResult | None = None
        async for found in self._decided(request, operation, feed.listener):
            if found is None:
                yield sign_of_life("")
            result = found
        if result is None:
            return
        shown = representation(identifier, result)
        yield frame("", shown, "operation")
        if result.outcome == "accepted":
            trail.follow(result.result)
            await self.hub.join()
            heads = await feed.heads()
            feed.start(heads, {})
            feed.seen |= {s: p for s, p in (await feed.since(*_of(operation))).items() if s in heads}
            told = dict(feed.seen)
            async for event in self._events(request, feed, trail, told):
                if event is None:
                    yield sign_of_life(_merged(told, token))
                elif event.position > token.get(event.source, 0):
                    yield frame(_merged(told, token), event.body)
        if feed.listener.ended is None:
            data = ending("completed", operation=orjson.Fragment(shown))
            yield frame("", orjson.dumps(data), "end")

    async def _decided(
        self, request: Request, operation: Operation, listener: Listener
    ) -> AsyncIterator[CommandResult | None]:
        """The result at last; ``None`` from time to time while there is none."""
        loop = asyncio.get_running_loop()
        pause, spoken = _RESULT_FIRST_S, loop.time()
        while (result := await stored_result(self.histories, operation)) is None:
            await listener.wait(pause)
            if listener.ended is not None:
                return
            if not await self.auth.still_valid(request.headers):
                listener.end("unauthenticated")
                return
            pause = min(pause * 1.5, _RESULT_MAX_S)
            if loop.time() - spoken >= KEEP_ALIVE_S:
                spoken = loop.time()
                yield None
        yield result

    async def _events(
        self, request: Request, feed: Feed, trail: Trail, told: tokens.Positions
    ) -> AsyncIterator[Event | None]:
        """Events until the trail has ended; what the command itself did is all in history by now.

        ``told`` is kept at what the listener has been handed. What is stored comes in order of time: a cause is always
        older than what it caused, whatever shards the two are on.
        """
        async for event in _by_time(feed.history()):
            if feed.listener.ended is not None:
                return
            if not trail.note(event):
                told[event.source] = event.position
                yield event
        if not trail.has_ended():
            async for arrived in self.live(request, feed):
                if arrived is not None and trail.note(arrived):
                    break
                told |= feed.seen
                yield arrived
        if trail.last is not None:
            # Shards have no order among them. What led to the end is stored by now, and goes before it.
            feed.seen[trail.last.source] = trail.last.position - 1
            async for event in _by_time(feed.history()):
                told[event.source] = event.position
                yield event


async def _by_time(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """In order of time, as far as a bounded number of them can be held."""
    held: list[Event] = []
    async for event in events:
        held.append(event)
        if len(held) == MAX_HELD:
            for each in sorted(held, key=_time):
                yield each
            held.clear()
    for each in sorted(held, key=_time):
        yield each


def _time(event: Event) -> str:
    return event.time


def frame(token: str, data: bytes, name: str = "") -> bytes:
    """One server-sent event; ``data`` is JSON without line breaks."""
    assert b"\n" not in data
    head = f"id: {token}\n" if token else ""
    return (
        f"{head}event: {name}\ndata: ".encode() + data + b"\n\n"
        if name
        else head.encode() + b"data: " + data + b"\n\n"
    )


def sign_of_life(token: str) -> bytes:
    """A comment, and what was passed over meanwhile."""
    return b": keep-alive\n" + (f"id: {token}\n" if token else "").encode() + b"\n"


def last_id(request: Request, after: str) -> tokens.Positions:
    """Positions of ``Last-Event-ID``, or of ``?after=`` where a client can not set a header; empty without."""
    raw, pointer = request.header(_LAST_ID.lower().encode()), _LAST_ID
    if not raw:
        raw, pointer = after, "?after"
    try:
        return tokens.decode(raw)
    except tokens.MalformedTokenError as error:
        raise ProblemError("invalid-consistency-token", str(error), pointer=pointer) from None


def _types(text: str) -> Callable[[str], bool]:
    """Whether a type is one of ``text``: names, or beginnings that end with ``*``, separated by commas."""
    if not text:
        return lambda _: True
    names = text.split(",")
    if len(names) > MAX_TYPES:
        raise ProblemError("invalid-parameter", f"At most {MAX_TYPES} types.", pointer="?types")
    found: set[str] = set()
    for name in names:
        matching = {t for t in _TYPES if t == name or (name.endswith("*") and t.startswith(name[:-1]))}
        if not matching:
            raise ProblemError("invalid-parameter", "There is no such type of event.", pointer="?types")
        found |= matching
    return found.__contains__


def _of(operation: Operation) -> tuple[str, str]:
    return operation.service, operation.command_id


def _merged(seen: tokens.Positions, token: tokens.Positions) -> str:
    merged = dict(seen)
    tokens.merge_into(merged, token)
    return tokens.encode(merged)
