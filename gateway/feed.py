"""One listener's events without loss or repetition: history up to now, then what arrives.

The order is what makes it whole. The hub has joined the topics before history is read, and every event is in
the store before it is on a topic; so whatever history does not have will arrive. Both overlap, and positions
say what was seen: ``seen`` holds, for every shard, the last one that was handed out or passed over, and it is
the token that goes out with each event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

import orjson
from pydantic_core import from_json, to_json

from gateway.hub import Arrival, Hub, Listener
from gateway.upstream import Reply, away
from nexafi.problems import ProblemError
from schemas.common import tokens

PAGE: Final = 200
_HEADER: Final = "ce_"
_NUMBERS: Final = frozenset({"shard", "position", "streamversion"})
#: For the platform's own use: how a trace goes on concerns no listener.
_HIDDEN: Final = frozenset({"traceparent"})


class Histories(Protocol):
    """Reads of a service; :class:`gateway.upstream.Services`."""

    async def get(
        self, service: str, target: str, *, tenant: str, actor: str, timeout_s: float = ...
    ) -> Reply:
        """``GET target``."""


@dataclass(slots=True, frozen=True)
class Event:
    """An event for a listener. ``body`` is the CloudEvent as JSON (structured mode); ``source`` is ``service/shard``."""

    source: str
    position: int
    time: str
    type: str
    subject: str
    correlation: str
    causation: str
    saga: str
    body: bytes


def of_arrival(arrival: Arrival) -> Event:
    """The event of a record: its headers and its data."""
    event = arrival.event
    attributes: dict[str, Any] = {}
    for name, raw in event.headers.items():
        if name.startswith(_HEADER) and (key := name[3:]) not in _HIDDEN:
            attributes[key] = int(raw) if key in _NUMBERS else raw.decode()
    attributes["datacontenttype"] = "application/json"
    attributes["data"] = orjson.Fragment(event.value)
    return Event(
        arrival.source,
        arrival.position,
        attributes.get("time", ""),
        attributes["type"],
        attributes.get("subject", ""),
        attributes.get("correlationid", ""),
        attributes.get("causationid", ""),
        attributes.get("sagaid", ""),
        orjson.dumps(attributes),
    )


def of_item(source: str, item: Mapping[str, Any]) -> Event:
    """The event of a page of history."""
    return Event(
        source,
        item["position"],
        item["time"],
        item["type"],
        item["subject"],
        item["correlationid"],
        item["causationid"],
        item.get("sagaid", ""),
        to_json(item),
    )


class Feed:
    """Events of one listener. ``wants`` judges what history gives; the listener judges what arrives."""

    def __init__(
        self,
        hub: Hub,
        histories: Histories,
        listener: Listener,
        actor: str,
        *,
        services: Collection[str],
        wants: Callable[[Event], bool],
        about: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.listener = listener
        self.seen: tokens.Positions = {}
        self._hub = hub
        self._histories = histories
        self._actor = actor
        self._services = tuple(services)
        self._wants = wants
        self._about = about

    @property
    def token(self) -> str:
        """What was seen, as a consistency token."""
        return tokens.encode(self.seen)

    async def heads(self) -> tokens.Positions:
        """The last position of every shard."""
        bodies = await asyncio.gather(*(self._system(s, "/internal/heads") for s in self._services))
        return {
            f"{service}/{row['shard']}": row["next_position"] - 1
            for service, body in zip(self._services, bodies, strict=True)
            for row in body["shards"]
        }

    async def since(self, service: str, command_id: str) -> tokens.Positions:
        """Positions before everything that a command (decided by ``service``) can have caused."""
        first = await self._system(service, f"/internal/since?command={command_id}")
        target = f"/internal/since?time={quote(first['time'])}"
        others = await asyncio.gather(*(self._system(s, target) for s in self._services if s != service))
        found: tokens.Positions = {}
        for body in (first, *others):
            found |= body["positions"]
        return found

    def start(self, heads: Mapping[str, int], token: Mapping[str, int]) -> None:
        """Begin behind ``token``; what it does not name begins now (``heads``)."""
        for source, head in heads.items():
            position = token.get(source, head)
            if position > head:
                raise ProblemError(
                    "invalid-consistency-token",
                    "The token is ahead of the history: the platform was restored. Begin without one.",
                    pointer="Last-Event-ID",
                )
            self.seen[source] = position

    async def history(self) -> AsyncIterator[Event]:
        """What is stored and was not seen; when it ends, everything that is missing is going to arrive."""
        for service in self._services:
            async for event in self._pages(service):
                yield event
        if not self.listener.attached:
            # From here on the queue fills. The first reading may have taken long; this one is short.
            self.listener.attached = True
            async for event in self.history():
                yield event

    async def _pages(self, service: str) -> AsyncIterator[Event]:
        while True:
            mine = {s: p for s, p in self.seen.items() if s.startswith(f"{service}/")}
            query = {"after": tokens.encode(mine), "limit": PAGE}
            if about := self._about():
                query["about"] = ",".join(sorted(about))
            target = f"/internal/events?{urlencode(query)}"
            reply = await self._histories.get(service, target, tenant=self.listener.tenant, actor=self._actor)
            if reply.status != 200:
                raise away(service)
            page = from_json(reply.body)  # amounts may exceed 64 bits
            for item in page["items"]:
                source = f"{service}/{item['shard']}"
                if item["position"] <= self.seen.get(source, 0):
                    continue
                self.seen[source] = item["position"]
                event = of_item(source, item)
                if self._wants(event):
                    yield event
            tokens.merge_into(self.seen, tokens.decode(page["next"]))
            if not page["more"]:
                return

    def arrived(self) -> Event | None:
        """The next event that has arrived and was not seen; ``None`` when there is none."""
        while (arrival := self.listener.take()) is not None:
            if self._new(arrival):
                return of_arrival(arrival)
        if self.listener.ended is None:
            # Nothing waits: all that the hub has handed on was wanted and seen, or is not for this listener.
            for source, position in self._hub.positions.items():
                if source in self.seen and position > self.seen[source]:
                    self.seen[source] = position
        return None

    def _new(self, arrival: Arrival) -> bool:
        if arrival.position <= self.seen.get(arrival.source, 0):
            return False
        self.seen[arrival.source] = arrival.position
        return True

    async def _system(self, service: str, target: str) -> dict[str, Any]:
        reply = await self._histories.get(service, target, tenant="", actor="system:gateway")
        if reply.status != 200:
            raise away(service)
        body: dict[str, Any] = orjson.loads(reply.body)
        return body
