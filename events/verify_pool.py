"""Verification on every core: one process for each shard that is being checked."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from events.checking import Probe
from events.decider import Decider
from events.errors import CorruptHistoryError
from events.signed_heads import Pins, Place
from events.verify import ShardReport, ShardSurvey, survey, verify_shard
from nexafi.memory import settle_heap

#: Below this many events, starting a process (a second) takes longer than checking.
WORTH_A_PROCESS: Final = 50_000


@dataclass(slots=True)
class Scope:
    """What is to be checked, and what it is compared with."""

    #: Only these shards of each store; ``None``: all.
    shards: Sequence[int] | None = None
    #: Only what was recorded at this time or later (microseconds).
    since_us: int | None = None
    #: What signed heads say. Read them **before** the stores.
    pins: Mapping[Place, Pins] = field(default_factory=dict)
    #: What claims to equal the state at a position; picklable.
    probes: Mapping[Place, Mapping[int, Probe]] = field(default_factory=dict)


@dataclass(slots=True)
class _Task:
    url: str
    decider: Decider[Any]
    shard: ShardSurvey
    since_us: int | None
    pins: Pins | None
    probes: Mapping[int, Probe] | None

    @property
    def events(self) -> int:
        return self.shard.head.next_position - 1


def verify_stores(
    url: str, deciders: Iterable[Decider[Any]], scope: Scope, *, jobs: int | None = None
) -> Iterator[ShardReport]:
    """Check the stores of these domains; reports come as shards are done.

    The bound of each store is read before anything is checked. Raises ``psycopg.OperationalError`` when the
    database can not be reached.
    """
    tasks: list[_Task] = []
    for decider in deciders:
        try:
            found = _surveyed(url, decider)
        except (CorruptHistoryError, psycopg.ProgrammingError) as error:
            yield ShardReport(decider.service, -1, problem=str(error).strip())
            continue
        yield from _missing(decider.service, found, scope)
        for shard in found:
            place = (decider.service, shard.head.shard)
            if scope.shards is None or shard.head.shard in scope.shards:
                pins, probes = scope.pins.get(place), scope.probes.get(place)
                tasks.append(_Task(url, decider, shard, scope.since_us, pins, probes))
    tasks.sort(key=lambda t: t.events, reverse=True)
    processes = min(jobs or os.cpu_count() or 1, len(tasks))
    if processes <= 1 or sum(t.events for t in tasks) < WORTH_A_PROCESS:
        yield from map(_check, tasks)
        return
    # Not fork: the caller may have threads and connections.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), settle_heap) as pool:
        for done in as_completed([pool.submit(_check, task) for task in tasks]):
            yield done.result()


def _surveyed(url: str, decider: Decider[Any]) -> list[ShardSurvey]:
    with psycopg.connect(url, autocommit=True) as conn:
        return survey(conn, decider.service, decider.state_version)


def _missing(service: str, found: Sequence[ShardSurvey], scope: Scope) -> Iterator[ShardReport]:
    """A shard that has a signed head and is not there any more."""
    there = {s.head.shard for s in found}
    for name, shard in scope.pins:
        if name == service and shard not in there and (scope.shards is None or shard in scope.shards):
            yield ShardReport(service, shard, problem="a head was signed for this shard, and it is gone")


def _check(task: _Task) -> ShardReport:
    with psycopg.connect(task.url, autocommit=True) as conn:
        return verify_shard(
            conn,
            task.decider,
            task.shard,
            since_us=task.since_us,
            pins=task.pins,
            probes=task.probes,
        )
