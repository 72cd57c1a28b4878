"""Commands on their way: sent, and not yet seen answered. Bounded for each shard and each tenant.

A flight begins before its command is produced and ends with the reply, or after ``TTL_S`` when no reply
came (the stored result remains the truth). While it lasts it takes a place of its shard (:mod:`gateway.lanes`) and its
tenant, so a writer that falls behind is not buried: who finds no place gets 429. Nothing depends on the client staying:
whoever waits has a waiter of his own, and a flight ends without him.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Any, Final, Protocol, TypeAlias

import structlog

from events.replies import Sink, result_of
from gateway.lanes import Lane
from nexafi.problems import ProblemError
from nexafi.settings import Settings
from schemas.common.outcomes import CommandResult

log = structlog.get_logger(__name__)
#: A flight without an answer is forgotten after this long.
TTL_S: Final = 35.0
_SWEEP_S: Final = 1.0
#: Answered commands whose digests are remembered, so that another request under the same key is refused at once.
#: Beyond, the stored answer tells them apart. Some 2.5 MB.
MAX_REMEMBERED: Final = 8_192


#: Answer to one item of a bulk record: an ``ItemResult`` as it came.
ItemAnswer: TypeAlias = dict[str, Any]


class Replies(Protocol):
    """Where answers arrive; :class:`events.replies.ReplyListener`."""

    @property
    def address(self) -> str:
        """What goes into ``reply_to``."""

    @property
    def listening(self) -> bool:
        """Whether answers can arrive."""

    def register(self, command_id: str, sink: Sink) -> None:
        """Hand ``sink`` the answers."""

    def forget(self, command_id: str) -> None:
        """No longer."""


class Flight:
    """One Kafka record on its way: a command, or ``count`` commands of a bulk."""

    __slots__ = (
        "command_id",
        "count",
        "delivery",
        "digest",
        "ends_at",
        "failure",
        "flights",
        "items",
        "landed",
        "lane",
        "result",
        "tenant",
        "waiters",
        "weight",
    )

    def __init__(
        self,
        flights: Flights,
        command_id: str,
        digest: str,
        lane: str,
        tenant: str,
        ends_at: float,
        count: int,
        weight: int,
    ) -> None:
        self.flights = flights
        self.command_id = command_id
        self.digest = digest
        self.lane = lane
        self.tenant = tenant
        self.ends_at = ends_at
        self.count = count
        #: Places that it takes.
        self.weight = weight
        #: Ends when Kafka has the record; shared with others.
        self.delivery: asyncio.Future[None] | None = None
        self.landed = False
        self.failure: ProblemError | None = None
        self.result: CommandResult | None = None
        #: Answers to a bulk's items so far, by their index in the record.
        self.items: dict[int, ItemAnswer] = {}
        self.waiters: list[asyncio.Future[CommandResult | None]] = []

    def answered(self, body: dict[str, Any]) -> bool:
        """A reply has come; ``True`` when it was the last."""
        parts = body.get("items")
        if parts is None:
            result = result_of(body)
            flights = self.flights
            flights.remember(self, result)
            flights.answered(self)
            flights.end(self, result)
            return True
        items = self.items
        for part in parts:
            items[part["index"]] = part
        if len(items) < self.count:
            return False
        self.flights.answered(self)
        self.flights.end(self, None)
        return True

    def sent(self, delivery: asyncio.Future[None]) -> None:
        """Kafka has the record, or never will: then everyone who waits for it hears so."""
        error = None if delivery.cancelled() else delivery.exception()
        if delivery.cancelled() or error is not None:
            log.warning(
                "command not sent",
                error=type(error).__name__,
                target=self.lane,
                correlation_id=self.command_id,
            )
            self.flights.fail(self, log_unavailable())


class Flights:
    """All commands of this gateway that are on their way."""

    def __init__(self, replies: Replies, settings: Settings, *, ttl_s: float = TTL_S) -> None:
        self._replies = replies
        self._max_shard = settings.max_commands_per_shard
        self._max_tenant = settings.max_commands_per_tenant
        self._ttl_s = ttl_s
        self._open: dict[str, Flight] = {}
        self._ages: deque[Flight] = deque()
        self._lanes: dict[str, Lane] = {}
        self._tenants: dict[str, int] = {}
        self._decided: dict[str, str] = {}
        self._drained_at = float("inf")

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, command_id: str) -> bool:
        return command_id in self._open

    def find(self, command_id: str, digest: str) -> Flight | None:
        """The flight of the same command, to be joined; another body under the same id is refused."""
        flight = self._open.get(command_id)
        known = flight.digest if flight is not None else self._decided.get(command_id, digest)
        if known != digest:
            raise reused()
        return flight

    def room(self, lane: str, tenant: str, weight: int = 1) -> None:
        """Raise 429 when there are not so many places: one for each command, more for a large one."""
        places = self._lanes.get(lane)
        if places is not None and places.full(tenant, weight):
            raise _busy("This part of the platform has as many commands under way as it takes.")
        if self._tenants.get(tenant, 0) + weight > self._max_tenant:
            raise _busy("You have as many commands under way as one tenant may have.")

    def depart(
        self, command_id: str, digest: str, lane: str, tenant: str, count: int = 1, weight: int = 0
    ) -> Flight:
        """Begin a flight of ``count`` commands; before its record is produced. ``lane`` is ``service/shard``."""
        weight = weight or count
        flight = Flight(self, command_id, digest, lane, tenant, monotonic() + self._ttl_s, count, weight)
        self._open[command_id] = flight
        self._ages.append(flight)
        places = self._lanes.get(lane)
        if places is None:
            places = self._lanes[lane] = Lane(self._max_shard)
        places.enter(tenant, weight)
        self._tenants[tenant] = self._tenants.get(tenant, 0) + weight
        self._replies.register(command_id, flight)
        return flight

    def answered(self, flight: Flight) -> None:
        """The shard has answered: how long that took says how many commands it may be given."""
        if not flight.landed:
            self._lanes[flight.lane].answered(monotonic() - flight.ends_at + self._ttl_s)

    def remember(self, flight: Flight, result: CommandResult) -> None:
        """The flight's request is the one that its key stands for. One that failed or came second is not."""
        if result.conflict or result.outcome == "failed":
            return
        decided = self._decided
        decided[flight.command_id] = flight.digest
        if len(decided) > MAX_REMEMBERED:
            del decided[next(iter(decided))]

    def fail(self, flight: Flight, problem: ProblemError) -> None:
        """The record could not be sent: everyone who waits for it hears so. An answer that came is the truth."""
        if flight.landed:
            return
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
        self._lanes[flight.lane].leave(flight.tenant, flight.weight)
        _decrement(self._tenants, flight.tenant, flight.weight)
        for waiter in flight.waiters:
            if not waiter.done():
                waiter.set_result(result)
        flight.waiters.clear()

    async def sent(self, flight: Flight) -> CommandResult | None:
        """Return when Kafka has the record, with the answer if it is there; raises what kept it from being sent."""
        if flight.failure is None and not flight.landed and flight.delivery is not None:
            await asyncio.wait({flight.delivery})
        if flight.failure is not None:
            raise flight.failure
        return flight.result

    async def wait(self, flight: Flight, seconds: float) -> CommandResult | None:
        """The answer, or ``None`` when none came in time; raises what kept the command from being sent."""
        if flight.failure is not None:
            raise flight.failure
        if flight.landed:  # the answer may come before Kafka's acknowledgement
            return flight.result
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[CommandResult | None] = loop.create_future()
        flight.waiters.append(waiter)
        timer = loop.call_later(max(0, min(seconds, self._drained_at - loop.time())), _give_up, waiter)
        try:
            result = await waiter
        finally:
            timer.cancel()
            if not flight.landed and waiter in flight.waiters:
                flight.waiters.remove(waiter)
        if flight.failure is not None:
            raise flight.failure
        return result

    def drain(self, seconds: float) -> None:
        """Nobody waits for longer than ``seconds`` any more, whoever waits now included."""
        self._drained_at = asyncio.get_running_loop().time() + seconds
        asyncio.get_running_loop().call_later(seconds, self._give_up_all)

    def _give_up_all(self) -> None:
        for flight in self._open.values():
            for waiter in flight.waiters:
                _give_up(waiter)

    async def sweep(self) -> None:
        """Forget flights whose answer did not come, for ever."""
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._ttl_s))
            now = monotonic()
            while self._ages and (self._ages[0].landed or self._ages[0].ends_at <= now):
                flight = self._ages.popleft()
                if not flight.landed:
                    self._replies.forget(flight.command_id)
                    self.end(flight, None)


def _give_up(waiter: asyncio.Future[CommandResult | None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _decrement(counts: dict[str, int], key: str, count: int) -> None:
    left = counts[key] - count
    if left:
        counts[key] = left
    else:
        del counts[key]


def log_unavailable() -> ProblemError:
    """The problem of a command that Kafka did not acknowledge; it may have arrived all the same."""
    return ProblemError(
        "log-unavailable",
        "The command was not acknowledged. Send the same request with the same Idempotency-Key again.",
        headers={"Retry-After": "1"},
    )


def _busy(detail: str) -> ProblemError:
    return ProblemError("too-many-requests", detail, headers={"Retry-After": "1"})


def reused() -> ProblemError:
    """The problem of an idempotency key that stands for something else already."""
    return ProblemError(
        "idempotency-key-reused",
        "This key was used for another request. Use a new key for a new request.",
        pointer="Idempotency-Key",
    )
