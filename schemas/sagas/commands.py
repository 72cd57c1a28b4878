"""Commands of the payment saga: facts of other services, copied to its topic by the router, and its own timers."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from schemas.common.base import Command, Id, Micros


class ObserveEvent(Command):
    """An event of another service that concerns this saga. ``command_id = uuid5(event id, saga id)``.

    ``store``/``shard``/``position`` go into the consistency token of the ended saga.
    """

    TYPE: ClassVar[str] = "payment-saga.observe-event.v1"

    saga_id: Id
    event_id: str
    event_type: str
    store: str
    shard: int
    position: int
    time_us: Micros
    tenant: str
    actor: str
    data: dict[str, Any]


class TimerFired(Command):
    """Internal: a deadline of the saga has passed."""

    TYPE: ClassVar[str] = "payment-saga.timer-fired.v1"

    saga_id: Id
    timer: Literal["step", "review"]
    step: int


COMMANDS: dict[str, type[Command]] = {c.TYPE: c for c in (ObserveEvent, TimerFired)}
