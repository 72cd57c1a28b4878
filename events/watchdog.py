"""Progress of a consumer: aiokafka can get stuck after a broker restart, so its progress is watched."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Final, TypeVar

from nexafi.role import Health

K = TypeVar("K", bound=Hashable)
STUCK_AFTER_S: Final = 20.0


class Watchdog:
    """Says when records wait and none was taken for too long."""

    def __init__(self, name: str, health: Health, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = f"{name}/progress"
        self._health = health
        self._clock = clock
        self._last = clock()

    def progress(self) -> None:
        """Something was processed."""
        self._last = self._clock()
        self._health.ok(self._name)

    def stuck(self, positions: Mapping[K, tuple[int, int]]) -> bool:
        """Whether (position, end) pairs show work waiting without progress; restarts the count when true."""
        lag = sum(max(0, end - position) for position, end in positions.values())
        if lag == 0:
            self.progress()
            return False
        waited = self._clock() - self._last
        if waited < STUCK_AFTER_S:
            return False
        self._health.bad(self._name, f"{lag} records wait and none was taken for {waited:.0f} s")
        self._last = self._clock()
        return True
