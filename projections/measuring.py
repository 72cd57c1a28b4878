"""How fast views are made, measured on whatever the topics of this installation hold.

Each function builds beside the live version and drops what it built: nothing that is read changes. Meant for
benchmarks; figures include reading Kafka (or PostgreSQL, for search), folding, writing and committing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from nexafi.settings import Settings
from projections.digests import Comparison
from projections.rebuild import building
from projections.registry import newest
from projections.search.documents import ENTRIES, Index
from projections.search.rebuild import filled


@dataclass(frozen=True)
class Rate:
    """``count`` events (or documents) in ``seconds``."""

    count: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Events (documents) a second."""
        return self.count / self.seconds if self.seconds else 0.0


async def projection_rate(settings: Settings, view: str = "ledger") -> Rate:
    """Events a second from Kafka into PostgreSQL, rows and marks committed; up to where the live version stands."""
    done = 0

    def progress(count: int, _: int) -> None:
        nonlocal done
        done = count

    async with building(settings, newest(view), progress, scratch=True) as builder:
        began = time.perf_counter()
        await builder.fill()
        return Rate(done, time.perf_counter() - began)


async def rebuild_rate(settings: Settings, view: str = "ledger") -> tuple[Rate, Comparison]:
    """Events a second for a whole rebuild, comparison with the live version included; and what that came to."""
    done = 0

    def progress(count: int, _: int) -> None:
        nonlocal done
        done = count

    began = time.perf_counter()
    async with building(settings, newest(view), progress, scratch=True) as builder:
        comparison = await builder.compare()
    return Rate(done, time.perf_counter() - began), comparison


async def search_rate(settings: Settings, index: Index = ENTRIES) -> Rate:
    """Documents a second from PostgreSQL into a new index of Elasticsearch."""
    began = time.perf_counter()
    documents = await filled(settings, index)
    return Rate(documents, time.perf_counter() - began)
