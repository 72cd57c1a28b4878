"""How fast projections take in history, and how far behind they are under load."""

from __future__ import annotations

import asyncio
import bisect
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.cpu import Cpu
from benchmarks.installation import Installation
from benchmarks.stats import Latencies
from benchmarks.stored import Store
from projections.search.documents import ENTRIES

#: The index over entries: two documents for each transfer.
SEARCH_VIEW: Final = ENTRIES.view
#: Seconds that a role may take until its first mark.
START_S: Final = 120.0
_POLL_S: Final = 0.1
_SAMPLE_S: Final = 0.01


@dataclass
class CatchUp:
    """A projection that began with nothing. ``complete`` is false when its window ended first."""

    events: int
    seconds: float
    complete: bool
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        """Events a second between the first and the last mark that were seen."""
        return self.events / self.seconds


async def catch_up(installation: Installation, role: str, view: str, *, window_s: float) -> CatchUp:
    """Start ``role`` alone and watch the marks of ``view`` until it has everything or ``window_s`` are over."""
    store = Store(installation.settings)
    try:
        target = store.events()
        process = installation.start_role(role)
        first, begun, seen, last = 0, 0.0, 0, 0.0
        cpu: Cpu | None = None
        started = time.perf_counter()
        while seen < target:
            now = time.perf_counter()
            done = sum((await asyncio.to_thread(store.marks, view)).values())
            if done and not begun:
                first, begun, cpu = done, now, Cpu(installation.pids())
            if done > seen:
                seen, last = done, now
            if now - (begun or started) > (window_s if begun else START_S):
                break
            await asyncio.sleep(_POLL_S)
        if not begun:
            raise TimeoutError(f"{role} took in {seen} of {target} events in time")
        assert cpu is not None
        facts = {"cpu": cpu.shares(), "events": seen, "of": target}
        if seen < target:
            await asyncio.to_thread(process.end)
        if (
            first > target // 10
        ):  # few large steps: the first one counts, and so does the start of the process
            return CatchUp(seen, last - started, seen >= target, facts | {"clock": "from the start"})
        return CatchUp(seen - first, last - begun, seen >= target, facts)
    finally:
        store.close()


class LagSampler:
    """Notes every few milliseconds how far marks have come, so that afterwards each event's lag can be told."""

    def __init__(self, settings: Any, views: Sequence[str]) -> None:
        self._settings = settings
        self._views = views
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="lag sampler")
        #: (view, shard) -> ascending positions, and when each was first seen (seconds since 1970).
        self.seen: dict[tuple[str, int], tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))

    def __enter__(self) -> LagSampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        store = Store(self._settings)
        try:
            while not self._stop.wait(_SAMPLE_S):
                for view in self._views:
                    marks = store.marks(view)
                    now = time.time()
                    for shard, position in marks.items():
                        positions, times = self.seen[view, shard]
                        if not positions or position > positions[-1]:
                            positions.append(position)
                            times.append(now)
        finally:
            store.close()


def lag(
    seen: Callable[[int], tuple[Sequence[int], Sequence[float]]], events: Sequence[tuple[int, int, float]]
) -> tuple[Latencies, int]:
    """Seconds from each event's own time to the first sample whose mark has it, and how many no sample has.

    ``events`` are (shard, position, time); ``seen(shard)`` gives ascending positions and when they were seen. The
    events' time is the batch's, taken before it is decided, so committing and publishing are in the lag.
    """
    lags: list[float] = []
    unseen = 0
    for shard, position, moment in events:
        positions, times = seen(shard)
        at = bisect.bisect_left(positions, position)
        if at == len(positions):
            unseen += 1
        else:
            lags.append(times[at] - moment)
    return Latencies.of(lags), unseen
