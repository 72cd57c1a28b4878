"""Commands on their way: sent, and not yet seen answered. Bounded for each shard and each tenant.

A flight begins before its command is produced and ends with the reply, or after ``TTL_S`` when no reply
came (the stored result remains the truth). While it lasts it takes a place of its shard and its tenant, so
a writer that falls behind is not buried: who finds no place gets 429. Nothing depends on the client staying:
whoever waits has a waiter of his own, and a flight ends without him.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from nexafi.problems import ProblemError
from nexafi.settings import Settings
from schemas.common.outcomes import CommandResult

#: A flight without an answer is forgotten after this long.
TTL_S: Final = 35.0
_SWEEP_S: Final = 1.0


class Replies(Protocol):
    """Where answers arrive; :class:`events.replies.ReplyListener`."""

    @property
    def address(self) -> str:
        """What goes into ``reply_to``."""

    @property
    def listening(self) -> bool:
        """Whether answers can arrive."""

    def expect(self, command_id: str) -> asyncio.Future[CommandResult]:
        """A future of the answer."""

    def forget(self, command_id: str) -> None:
        """Drop the future."""


class Flight:
    """One command on its way."""

    __slots__ = (
        "command_id",
        "digest",
        "ends_at",
        "failure",
        "landed",
        "lane",
        "result",
        "tenant",
        "waiters",
    )

    def __init__(self, command_id: str, digest: str, lane: str, tenant: str, ends_at: float) -> None:
        self.command_id = command_id
        self.digest = digest
        self.lane = lane
        self.tenant = tenant
        self.ends_at = ends_at
        self.landed = False
        self.failure: ProblemError | None = None
        self.result: CommandResult | None = None
        self.waiters: list[asyncio.Future[CommandResult | None]] = []


class Flights:
    """All commands of this gateway that are on their way."""

    def __init__(self, replies: Replies, settings: Settings, *, ttl_s: float = TTL_S) -> None:
        self._replies = replies
        self._max_shard = settings.max_commands_per_shard
        self._max_tenant = settings.max_commands_per_tenant
        self._ttl_s = ttl_s
        self._open: dict[str, Flight] = {}
        self._ages: deque[Flight] = deque()
        self._lanes: dict[str, int] = {}
        self._tenants: dict[str, int] = {}
        self._bulks: set[asyncio.Future[CommandResult | None]] = set()
        self._drained_at = float("inf")

    def __len__(self) -> int:
        return len(self._open)

    def find(self, command_id: str, digest: str) -> Flight | None:
        """The flight of the same command, to be joined; another body under the same id is refused."""
        flight = self._open.get(command_id)
        if flight is not None and flight.digest != digest:
            raise reused()
        return flight

    def room(self, lane: str, tenant: str, count: int = 1) -> None:
        """Raise 429 when ``count`` more commands have no place."""
        if self._lanes.get(lane, 0) + count > self._max_shard:
            raise _busy("This part of the platform has as many commands under way as it takes.")
        if self._tenants.get(tenant, 0) + count > self._max_tenant:
            raise _busy("You have as many commands under way as one tenant may have.")

    def depart(self, command_id: str, digest: str, lane: str, tenant: str) -> Flight:
        """Begin a flight; before its command is produced. ``lane`` is ``service/shard``."""
        loop = asyncio.get_running_loop()
        flight = Flight(command_id, digest, lane, tenant, loop.time() + self._ttl_s)
        self._open[command_id] = flight
        self._ages.append(flight)
        self._lanes[lane] = self._lanes.get(lane, 0) + 1
        self._tenants[tenant] = self._tenants.get(tenant, 0) + 1
        self._replies.expect(command_id).add_done_callback(_Landing(self, flight))
        return flight

    def fail(self, flight: Flight, problem: ProblemError) -> None:
        """The command could not be sent: everyone who waits for it hears so."""
        flight.failure = problem
        self._replies.forget(flight.command_id)
        self.end(flight, None)

    def end(self, flight: Flight, result: CommandResult | None) -> None:
        """Free the places; wake who waits."""
        if flight.landed:
            return
        flight.landed = True
        flight.result = result
        if self._open.get(flight.command_id) is flight:
            del self._open[flight.command_id]
        _decrement(self._lanes, flight.lane)
        _decrement(self._tenants, flight.tenant)
        for waiter in flight.waiters:
            if not waiter.done():
                waiter.set_result(result)
        flight.waiters.clear()

    async def wait(self, flight: Flight, seconds: float) -> CommandResult | None:
        """The answer, or ``None`` when none came in time; raises what kept the command from being sent."""
        if flight.failure is not None:
            raise flight.failure
        if flight.landed:  # the answer may come before Kafka's acknowledgement
            return flight.result
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[CommandResult | None] = loop.create_future()
        flight.waiters.append(waiter)
        timer = loop.call_later(min(seconds, self._drained_at - loop.time()), _give_up, waiter)
        try:
            result = await waiter
        finally:
            timer.cancel()
            if not flight.landed and waiter in flight.waiters:
                flight.waiters.remove(waiter)
        if flight.failure is not None:
            raise flight.failure
        return result

    async def wait_all(self, flights: list[Flight], deadline: float) -> None:
        """Return when all have ended, or at ``deadline`` (loop time): one waiter for all of them."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[CommandResult | None] = loop.create_future()
        seconds = min(deadline, self._drained_at) - loop.time()
        timer = loop.call_later(max(seconds, 0), _give_up, waiter)
        self._bulks.add(waiter)
        try:
            # Answers come in order and in batches: who waits for the last open one wakes up seldom.
            for flight in reversed(flights):
                while not flight.landed and not waiter.done():
                    flight.waiters.append(step := loop.create_future())
                    await asyncio.wait({step, waiter}, return_when=asyncio.FIRST_COMPLETED)
                    if not step.done():
                        flight.waiters.remove(step)
                if waiter.done():
                    return
        finally:
            timer.cancel()
            self._bulks.discard(waiter)

    def drain(self, seconds: float) -> None:
        """Nobody waits for longer than ``seconds`` any more, whoever waits now included."""
        loop = asyncio.get_running_loop()
        self._drained_at = loop.time() + seconds
        loop.call_later(seconds, self._give_up_all)

    def _give_up_all(self) -> None:
        for bulk in self._bulks:
            _give_up(bulk)
        for flight in self._open.values():
            for waiter in flight.waiters:
                _give_up(waiter)

    async def sweep(self) -> None:
        """Forget flights whose answer did not come, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._ttl_s))
            now = loop.time()
            while self._ages and (self._ages[0].landed or self._ages[0].ends_at <= now):
                flight = self._ages.popleft()
                if not flight.landed:
                    self._replies.forget(flight.command_id)
                    self.end(flight, None)


class _Landing:
    """Callback of a reply; a class because a closure for each command costs more."""

    __slots__ = ("flight", "flights")

    def __init__(self, flights: Flights, flight: Flight) -> None:
        self.flights = flights
        self.flight = flight

    def __call__(self, future: asyncio.Future[CommandResult]) -> None:
        self.flights.end(self.flight, None if future.cancelled() else future.result())


def _give_up(waiter: asyncio.Future[CommandResult | None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _decrement(counts: dict[str, int], key: str) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]


def _busy(detail: str) -> ProblemError:
    return ProblemError("too-many-requests", detail, headers={"Retry-After": "1"})


def reused() -> ProblemError:
    """The problem of an idempotency key that stands for something else already."""
    return ProblemError(
        "idempotency-key-reused",
        "This key was used for another request. Use a new key for a new request.",
        pointer="Idempotency-Key",
    )
