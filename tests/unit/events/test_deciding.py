"""Properties of deciding in batches: cuts do not matter, and a snapshot with its tail is the whole history.

Each property is run against a domain with a planted bug as well, and must notice it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.codec import Unit, id_to_bytes
from events.decider import Decider, EventMeta
from events.deciding import ShardBatch, ShardRuntime
from events.store.heads import Head
from nexafi.ids import derived_id
from schemas.common.base import Command, Event
from schemas.common.envelope import CommandEnvelope
from tests.kit.counter import Add, Close, CounterDecider, Open
from tests.kit.scenario import ROOT, START_US

#: Number of the counter (modulo those that are open), amount; amount 0 closes, a negative number opens another.
Program = list[tuple[int, int]]
PROGRAMS = st.lists(st.tuples(st.integers(-1, 5), st.integers(0, 9)), min_size=1, max_size=30)


def runtime_of(decider: Decider[Any]) -> ShardRuntime[Any]:
    head = Head(0, 1, "me", "h", 1, 0, 0, bytes(32))
    return ShardRuntime.of(head, decider.initial(0), 0)


def unit_of(number: int, command: Command) -> Unit:
    identifier = derived_id(ROOT, number)
    envelope = CommandEnvelope(identifier, command.TYPE, "acme", "tester", correlation_id=identifier)
    return Unit(0, number, 0, True, envelope, command, id_to_bytes(identifier), b"", None)


def run(
    decider: Decider[Any], program: Program, cuts: Sequence[int]
) -> tuple[ShardRuntime[Any], list[tuple[str, bytes]]]:
    """Decide a program in batches that end at ``cuts``, all at one injected time; what was appended."""
    runtime = runtime_of(decider)
    appended: list[tuple[str, bytes]] = []
    opened: list[str] = []
    batch: ShardBatch[Any] | None = None
    for number, (which, amount) in enumerate(program):
        if batch is None or number in cuts:
            if batch is not None:
                batch.finish(10**9)
            batch = ShardBatch(decider, runtime, START_US, b"key")
            batch.now_us = START_US  # injected: by itself each batch is a microsecond later
        if which < 0 or not opened:
            command: Command = Open(name=f"n{number}", expires_in_us=60_000_000 if amount % 2 else None)
        elif amount == 0:
            command = Close(counter_id=opened[which % len(opened)])
        else:
            command = Add(counter_id=opened[which % len(opened)], amount=amount)
        before = len(batch.outgoing)
        batch.decide(unit_of(number, command))
        for out in batch.outgoing[before:]:
            appended.append((out.topic, out.state))
            if out.topic == "counter.opened.v1":
                opened.append(out.stream)
    return runtime, appended


def assert_cuts_do_not_matter(decider: Decider[Any], program: Program, cuts: Sequence[int]) -> None:
    """The same decider decides the program twice: whole, and cut (as a process does that has lived a while)."""
    _, whole = run(decider, program, [])
    _, cut = run(decider, program, cuts)
    assert cut == whole


def assert_snapshot_and_tail_are_the_history(decider: CounterDecider, program: Program, at: int) -> None:
    runtime, appended = run(decider, program, [])
    history: list[tuple[Event, EventMeta]] = []
    versions: dict[str, int] = {}
    for position, (topic, data) in enumerate(appended, 1):
        event = decider.events[topic].from_json(data)
        stream = event.counter_id  # type: ignore[attr-defined]
        versions[stream] = versions.get(stream, 0) + 1
        history.append((event, EventMeta(stream, versions[stream], START_US, "acme", "tester", "", position)))
    at %= len(history) + 1
    state = decider.initial(0)
    for number, (event, meta) in enumerate(history):
        if number == at:
            state = decider.load(decider.dump(state))
        state = decider.evolve(state, event, meta)
    sound = CounterDecider()
    assert sound.dump(state) == sound.dump(runtime.state)
    assert decider.next_due(state) == decider.next_due(runtime.state)


@settings(max_examples=150, deadline=None)
@given(PROGRAMS, st.lists(st.integers(1, 29), max_size=6))
def test_any_cut_into_batches_gives_the_same_events(program: Program, cuts: list[int]) -> None:
    assert_cuts_do_not_matter(CounterDecider(), program, cuts)


@settings(max_examples=150, deadline=None)
@given(PROGRAMS, st.integers(0, 60))
def test_a_snapshot_and_its_tail_are_the_whole_history(program: Program, at: int) -> None:
    assert_snapshot_and_tail_are_the_history(CounterDecider(), program, at)


def test_a_domain_that_remembers_itself_is_caught() -> None:
    with pytest.raises(AssertionError):
        assert_cuts_do_not_matter(CounterDecider(bug="remembers-itself"), [(-1, 0), (0, 3), (0, 4)], [2])


def test_a_snapshot_that_drops_deadlines_is_caught() -> None:
    with pytest.raises(AssertionError):
        assert_snapshot_and_tail_are_the_history(CounterDecider(bug="drops-deadlines"), [(-1, 1), (-1, 1)], 1)
