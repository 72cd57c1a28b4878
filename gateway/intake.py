"""How much of large bodies the gateway holds at a time, over all requests: memory follows from it, not from callers.

What has come is counted, not what was announced, so a slow sender holds no more room than it has filled.
"""

from __future__ import annotations

from typing import Final

from nexafi.problems import ProblemError

#: Bytes of bodies that are being read or worked on; read, they take some times as much.
MAX_HELD_BYTES: Final = 16 * 1024 * 1024
#: A body in one piece up to this size is not counted: the server's own bound on requests is enough.
FREE_BYTES: Final = 64 * 1024


class Intake:
    """Counts held bytes."""

    def __init__(self, limit: int = MAX_HELD_BYTES) -> None:
        self._limit = limit
        self.held = 0

    def take(self, size: int) -> int:
        """Hold ``size`` bytes more; 429 when there is no room for them."""
        if self.held + size > self._limit:
            raise ProblemError(
                "too-many-requests",
                "As many large bodies are being read as there is room for.",
                headers={"Retry-After": "1"},
            )
        self.held += size
        return size

    def give(self, size: int) -> None:
        """What was held is done with."""
        self.held -= size
        assert self.held >= 0
