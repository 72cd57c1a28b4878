"""What passes between a writer and the outside: batches in flight, what they give when committed, figures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from events.codec import BadRecord, Unit
from events.deciding import Answer, Outgoing

Item: TypeAlias = Unit | BadRecord


@dataclass
class Committed:
    """What a committed batch gives to the outside: events to publish and answers to send."""

    outgoing: dict[int, list[Outgoing]]
    history: dict[int, str]
    replies: list[tuple[str, dict[str, Any]]]


@dataclass
class WriterStats:
    """Counters of a writer, read by metrics and the benchmark."""

    batches: int = 0
    commands: int = 0
    events: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    recoveries: int = 0
    fenced: int = 0
    commit_s: float = 0.0
    decide_s: float = 0.0
    lookup_s: float = 0.0


@dataclass
class InFlight:
    """A batch whose commit is under way: its answers, events and units, in case it must be read again."""

    task: asyncio.Task[None]
    answers: dict[bytes, Answer]
    outgoing: dict[int, list[Outgoing]]
    units: list[Item]


class ShardsLostError(Exception):
    """Some shards are not this writer's any more; its consumer must stop feeding them."""

    def __init__(self, shards: Iterable[int]) -> None:
        self.shards = sorted(shards)
        super().__init__(f"lost shards {self.shards}")
