"""The contract between a role (a long-running part of NexaFi) and whatever starts it.

A role is a coroutine function ``run(ctx)`` that works until ``ctx.stop`` is set and then drains. It
registers what it does in ``ctx.health``; ``/readyz`` of its process is the conjunction of all checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from nexafi.settings import Settings


@dataclass
class Health:
    """Named conditions of one process; a condition is ``None`` when well, else a sentence for people."""

    _problems: dict[str, str | None] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)

    def expect(self, name: str) -> None:
        """Declare a condition that is not yet met, so that the process is not ready before it is."""
        self._problems.setdefault(name, "starting")

    def ok(self, name: str) -> None:
        """The condition holds."""
        self._problems[name] = None

    def bad(self, name: str, why: str) -> None:
        """The condition does not hold; ``why`` says what is wrong in words."""
        self._problems[name] = why

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong now; empty when ready."""
        return {name: why for name, why in self._problems.items() if why is not None}

    @property
    def ready(self) -> bool:
        """Whether every declared condition holds."""
        return bool(self._problems) and not self.problems


@dataclass
class RoleContext:
    """What a role is given: settings, a stop signal and the health of its process."""

    settings: Settings
    stop: asyncio.Event
    health: Health


Role = Callable[[RoleContext], Awaitable[None]]
