"""Open-loop load: requests leave at a constant rate whether or not answers come.

A closed loop waits for an answer before it sends again, so a server that stands still for a second is asked
less in that second and the pause shows in one sample for each client (coordinated omission). Here request *n* is due
at ``start + n / rate`` and its latency counts from that moment, also when the client itself is late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

#: Seconds that answers may still take after the last request was due.
GRACE_S: Final = 30.0


@dataclass(slots=True)
class OpenLoop:
    """Outcome of a load. Times in seconds."""

    rate: float
    sent: int
    took_s: float
    latencies: list[float] = field(default_factory=list)
    #: By how much the client itself sent late at worst: what the generator could not keep up with.
    latest_send_s: float = 0.0
    unanswered: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def answered_per_s(self) -> float:
        """Answers over the time from the first due request to the last answer."""
        return len(self.latencies) / self.took_s

    @property
    def sustained(self) -> bool:
        """Whether all were answered, without a backlog: within 5 % of the time that the load itself takes (or 0.5 s)."""
        planned = self.sent / self.rate
        return not self.unanswered and not self.errors and self.took_s <= planned + max(0.5, planned * 0.05)


async def open_loop(
    rate: float,
    seconds: float,
    send: Callable[[float], Awaitable[None]],
    *,
    grace_s: float = GRACE_S,
    clock: Callable[[], float] = time.monotonic,
) -> OpenLoop:
    """Call ``send(due)`` for each request when it is due; a request never waits for another one's answer here.

    ``send`` returns when the answer is there, and raises when it is not the one that was wanted. ``due`` and all times
    are seconds of ``clock``.
    """
    count = int(rate * seconds)
    found = OpenLoop(rate, count, 0.0)
    ended: list[float] = []

    async def one(due: float) -> None:
        found.latest_send_s = max(found.latest_send_s, clock() - due)
        try:
            await send(due)
        except Exception as error:  # noqa: BLE001 -- told by the caller; the load goes on
            found.errors.append(f"{type(error).__name__}: {error}"[:300])
        else:
            now = clock()
            found.latencies.append(now - due)
            ended.append(now)

    start = clock() + 0.05
    running: set[asyncio.Task[None]] = set()
    for number in range(count):
        due = start + number / rate
        await asyncio.sleep(
            max(0.0, due - clock())
        )  # also when late: those that were sent must get their turn
        task = asyncio.create_task(one(due))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        _, late = await asyncio.wait(set(running), timeout=grace_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    found.unanswered = count - len(found.latencies) - len(found.errors)
    found.took_s = max(ended, default=clock()) - start
    return found
