"""What passes between a writer and the outside: batches in flight, what they give when committed, figures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from events.codec import BadRecord, Unit
from events.deciding import Answer, Outgoing
from events.store.append import ShardAppend
from events.store.reading import ResultRow

Item: TypeAlias = Unit | BadRecord
Rows: TypeAlias = dict[bytes, ResultRow]


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
    appends: Sequence[ShardAppend] = ()


class ShardsLostError(Exception):
    """Some shards are not this writer's any more; its consumer must stop feeding them.

    ``kept`` are the others, acquired again, and the offsets where reading them goes on: what was in hand is dropped.
    """

    def __init__(self, shards: Iterable[int], kept: Mapping[int, int] | None = None) -> None:
        self.shards = sorted(shards)
        self.kept = dict(kept or {})
        super().__init__(f"lost shards {self.shards}")


def known_answers(
    items: Iterable[Item], rows: Rows, recent: Iterable[dict[bytes, Answer]]
) -> dict[bytes, Answer]:
    """Answers of commands that were decided before: stored in ``rows``, or in batches since ``rows`` were read."""
    known = {
        key: Answer(bytes(row.request_hash), row.outcome, row.position, orjson.loads(row.result))
        for key, row in rows.items()
    }
    for answers in recent:
        if answers:
            for item in items:
                if isinstance(item, Unit) and (answer := answers.get(item.id_bytes)) is not None:
                    known[item.id_bytes] = answer
    return known


async def ended(task: asyncio.Task[Any] | None) -> None:
    """Give up a look-up that is not needed; its outcome is nobody's business any more."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
