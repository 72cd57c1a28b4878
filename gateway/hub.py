"""The hub: one reader of the events topics for all listeners of this gateway.

It reads only while somebody listens, joins at the end of the topics, and hands each event to the listeners
of its tenant. What a listener missed before he joined comes from the services' histories (see
:mod:`gateway.feed`), so the hub keeps nothing. Every queue is bounded: a listener that does not keep up is
ended and told so; what it has not seen is read again when it comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import structlog
from opentelemetry.metrics import CallbackOptions, Observation

from events.subscription import Batch, EventStream, RawEvent
from nexafi import telemetry
from nexafi.problems import ProblemError
from nexafi.role import Health
from nexafi.settings import Settings
from schemas.common.envelope import MalformedEnvelopeError

log = structlog.get_logger(__name__)

#: Services whose events may be listened to. Payments come last: what they say of an end follows from the others.
SERVICES: Final = ("ledger", "compliance", "payments")
#: What one listener may have waiting.
MAX_WAITING: Final = 1_000
MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
JOIN_TIMEOUT_S: Final = 10.0
#: The topics are read for this long after the last listener has left, so that who reconnects need not wait.
LINGER_S: Final = 30.0
_POLL_MS: Final = 500

#: Why a stream ends, in words. Clients switch on the code.
ENDS: Final[dict[str, str]] = {
    "completed": "The operation has ended; nothing more will come.",
    "too-slow": "Too many events were waiting for you. Go on from the last id.",
    "draining": "This instance is shutting down. Go on from the last id.",
    "gap": "An event is missing here. Go on from the last id.",
    "history-changed": "The platform was restored from a backup. Read again what you have, then listen anew.",
    "unauthenticated": "The credential has ended, or can not be checked now.",
    "unavailable": "Events can not be read now. Go on from the last id.",
}


class Arrival(NamedTuple):
    """An event as it arrived; ``source`` is ``service/shard``."""

    source: str
    position: int
    event: RawEvent


class Listener:
    """One stream's queue. ``wants`` is asked for each event of the tenant."""

    __slots__ = ("_bytes", "_queue", "_wake", "attached", "ended", "tenant", "wants")

    def __init__(self, tenant: str, wants: Callable[[RawEvent], bool]) -> None:
        self.tenant = tenant
        self.wants = wants
        self.attached = False
        self.ended: str | None = None
        self._queue: deque[Arrival] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()

    def offer(self, arrival: Arrival) -> None:
        """Take an event, or end when too many wait."""
        if self.ended is not None:
            return
        self._bytes += len(arrival.event.value)
        if len(self._queue) >= MAX_WAITING or self._bytes > MAX_WAITING_BYTES:
            self.end("too-slow")
            return
        self._queue.append(arrival)
        self._wake.set()

    def end(self, reason: str) -> None:
        """Nothing more will come; what waits is dropped, since it can be read again."""
        if self.ended is None:
            self.ended = reason
            self._queue.clear()
            self._wake.set()

    def take(self) -> Arrival | None:
        """The next event that waits."""
        if not self._queue:
            return None
        arrival = self._queue.popleft()
        self._bytes -= len(arrival.event.value)
        return arrival

    async def wait(self, seconds: float) -> None:
        """Return when something waits or has ended, or after ``seconds``."""
        if self._queue or self.ended is not None:
            return
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)


class Hub:
    """All listeners of this gateway."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._max = settings.max_event_streams
        self._max_tenant = settings.max_event_streams_per_tenant
        self._listeners: dict[str, set[Listener]] = {}
        self._count = 0
        self._joining = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._draining = False
        self._histories: dict[str, str] = {}
        self.too_slow = 0
        #: Last position that was handed on, by ``service/shard``.
        self.positions: dict[str, int] = {}
        telemetry.observed("nexafi.gateway.streams.ended", "Streams ended as too slow.", self._observe)

    def __len__(self) -> int:
        return self._count

    def _observe(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(self.too_slow, {"reason": "too-slow"})]

    # ------------------------------------------------------------------ listeners

    def enter(self, listener: Listener) -> None:
        """Take a place; problems 429 and 503 when there is none. Give it back with :meth:`leave`."""
        if self._draining:
            raise ProblemError("draining", headers={"Retry-After": "1"})
        if self._count >= self._max:
            raise ProblemError("overloaded", "All streams are taken.", headers={"Retry-After": "5"})
        mine = self._listeners.setdefault(listener.tenant, set())
        if len(mine) >= self._max_tenant:
            raise ProblemError(
                "too-many-requests",
                f"One tenant may have {self._max_tenant} streams open here.",
                headers={"Retry-After": "5"},
            )
        mine.add(listener)
        self._count += 1
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def leave(self, listener: Listener) -> None:
        """Give the place back."""
        mine = self._listeners.get(listener.tenant, set())
        if listener not in mine:
            return
        mine.discard(listener)
        if not mine:
            del self._listeners[listener.tenant]
        self._count -= 1
        self.too_slow += listener.ended == "too-slow"
        if not self._count and not self._draining:
            self._leaving = asyncio.get_running_loop().call_later(LINGER_S, self._rest)

    async def join(self) -> None:
        """Return when the topics are read: whatever is published from now on reaches attached listeners."""
        async with self._joining:
            if self._reading is not None and not self._reading.done():
                return
            stream = EventStream(
                self._settings, SERVICES, Health(), name="gateway-events", default_start="end"
            )
            try:
                async with asyncio.timeout(JOIN_TIMEOUT_S):
                    await stream.start()
            except TimeoutError:
                await stream.stop()
                raise ProblemError(
                    "log-unavailable", "Events can not be read now.", headers={"Retry-After": "1"}
                ) from None
            self.positions.clear()
            self._reading = asyncio.create_task(self._read(stream), name="event-hub")

    def drain(self) -> None:
        """End all streams, and take no more."""
        self._draining = True
        self._end_all("draining")

    async def stop(self) -> None:
        """Leave Kafka."""
        self.drain()
        if self._leaving is not None:
            self._leaving.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _rest(self) -> None:
        self._leaving = None
        if not self._count and self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _end_all(self, reason: str) -> None:
        for mine in self._listeners.values():
            for listener in mine:
                listener.end(reason)

    # ------------------------------------------------------------------ reading

    async def _read(self, stream: EventStream) -> None:
        try:
            while True:
                for batch in await stream.poll(_POLL_MS):
                    self._take(batch)
        except Exception:
            log.exception("the event hub failed; its streams end")
            self._end_all("unavailable")
            raise
        finally:
            await stream.stop()

    def _take(self, batch: Batch) -> None:
        source = f"{batch.service}/{batch.shard}"
        for event in batch.events:
            try:
                position, history, tenant = event.position, event.history, event.tenant
            except MalformedEnvelopeError as error:
                log.error(
                    "unreadable event passed over", source=source, offset=event.offset, error=str(error)
                )
                continue
            if self._histories.setdefault(source, history) != history:
                log.warning("history changed", source=source, history=history)
                self._histories[source] = history
                self.positions.clear()
                self._end_all("history-changed")
            last = self.positions.get(source)
            if last is not None and position <= last:
                continue  # the relay repeats itself after a crash
            if last is not None and position != last + 1:
                log.error("events are missing from the topic", source=source, after=last, position=position)
                self._end_all("gap")
            self.positions[source] = position
            self._dispatch(tenant, Arrival(source, position, event))

    def _dispatch(self, tenant: str, arrival: Arrival) -> None:
        for listener in self._listeners.get(tenant, ()):
            if listener.attached and listener.wants(arrival.event):
                listener.offer(arrival)


def ending(reason: str, **more: Any) -> dict[str, Any]:
    """Data of the last event of a stream."""
    return {"reason": reason, "detail": ENDS[reason], **more}
