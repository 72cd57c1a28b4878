"""Deciding which records count: drop what was seen, refuse gaps, follow a history that changed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias

from events.subscription import Batch, RawEvent, Source
from projections.histories import Histories
from projections.marks import Mark
from schemas.common.envelope import MalformedEnvelopeError

Verdict: TypeAlias = Literal["take", "drop", "gap", "new"]


class Taken(NamedTuple):
    """A record that comes next on its shard."""

    source: Source
    position: int
    event: RawEvent


class NewHistory(NamedTuple):
    """A history met for the first time, and where it begins."""

    source: Source
    history: str
    first_position: int


@dataclass(slots=True)
class Intake:
    """What one poll comes to. ``marks`` are those after the events that were taken."""

    taken: list[Taken] = field(default_factory=list)
    marks: dict[Source, Mark] = field(default_factory=dict)
    unreadable: list[tuple[Source, RawEvent, str]] = field(default_factory=list)
    histories: list[NewHistory] = field(default_factory=list)
    #: Shards of which a history began below what was taken in: their rows have to be made anew.
    rewound: set[Source] = field(default_factory=set)
    #: Shards that miss an event, with what is wrong in words; ``None`` when a shard goes on.
    gaps: dict[Source, str | None] = field(default_factory=dict)
    #: Shards that have reached their limit.
    full: set[Source] = field(default_factory=set)


def take(
    batches: Sequence[Batch],
    marks: Mapping[Source, Mark],
    histories: Histories,
    *,
    gaps: Mapping[Source, str] | None = None,
    limits: Mapping[Source, int] | None = None,
) -> Intake:
    """Sort the records of a poll. ``gaps`` are those known before; with ``limits`` a shard ends exactly there."""
    intake = Intake()
    for batch in batches:
        if gaps is not None and batch.source in gaps:
            intake.gaps[batch.source] = gaps[batch.source]
        limit = None if limits is None else limits.get(batch.source, 0)
        _take_shard(intake, batch, marks[batch.source], histories, limit)
    return intake


def _take_shard(intake: Intake, batch: Batch, before: Mark, histories: Histories, limit: int | None) -> None:
    source, mark = batch.source, replace(before)
    for event in batch.events:
        if limit is not None and mark.position >= limit:
            intake.full.add(source)
            break
        try:
            history, position = event.history, event.position
        except MalformedEnvelopeError as error:
            intake.unreadable.append((source, event, str(error)))
            continue
        verdict = judge(histories, source, mark, history, position)
        if verdict == "take":
            mark.position, mark.next_offset, mark.history = position, event.offset + 1, history
            intake.taken.append(Taken(source, position, event))
            intake.gaps[source] = None
        elif verdict == "gap":
            intake.gaps[source] = (
                f"event {mark.position + 1} is missing: event {position} follows {mark.position}"
            )
        elif verdict == "new":
            # What follows is judged when the history has been recorded: one more poll costs nothing.
            intake.histories.append(NewHistory(source, history, position))
            if position <= mark.position:
                intake.rewound.add(source)
            break
    else:
        if intake.gaps.get(source) is None:
            mark.next_offset = batch.next_offset
    if mark != before:
        intake.marks[source] = mark


def judge(histories: Histories, source: Source, mark: Mark, history: str, position: int) -> Verdict:
    """What becomes of an event at ``position`` of ``history`` for a reader that stands at ``mark``."""
    if history != mark.history and not histories.known(source, history):
        return "new" if position <= mark.position + 1 else "gap"
    if not histories.counts(source, history, position) or position <= mark.position:
        return "drop"
    return "take" if position == mark.position + 1 else "gap"
