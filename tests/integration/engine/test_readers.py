"""Readers that tail a shard while many writers commit late and out of turn: they see every position, in order."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from eventsourcing.persistence import StoredEvent

import events.store.recorder
from events.errors import FencedError
from events.store import reading
from events.store.append import single_append
from events.store.heads import acquire
from events.store.recorder import ShardRecorder, open_datastore
from nexafi.settings import Settings
from tests.kit.soak import Figure, Printed, figures

#: A commit is held back by up to so much.
DELAY_S = 0.003
Write = Callable[[ShardRecorder, list[StoredEvent], random.Random], int]


@pytest.fixture
def recorder(stack: Settings, database_url: str) -> Iterator[ShardRecorder]:
    store = open_datastore(database_url, "readers", pool_size=14)
    made = ShardRecorder(store, service="readers")
    made.create_table()
    yield made
    store.close()


class Tail:
    """A reader that remembers where it is, as projections and the relay do."""

    def __init__(self, recorder: ShardRecorder, read: Callable[[ShardRecorder, int], list[int]]) -> None:
        self.seen: list[int] = []
        self.problem: Exception | None = None
        self._recorder, self._read = recorder, read
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                over = self._over.is_set()
                found = self._read(self._recorder, self.seen[-1] if self.seen else 0)
                self.seen.extend(found)
                if over and not found:
                    return
                time.sleep(0.0005)
        except Exception as error:
            self.problem = error

    def assert_saw(self, positions: int) -> None:
        """Everything is written: the reader comes to the end, and has skipped nothing."""
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.problem is None, self.problem
        assert self.seen == list(range(1, positions + 1))


def by_notifications(recorder: ShardRecorder, after: int) -> list[int]:
    """The library's way."""
    return [n.id for n in recorder.select_notifications(after, 7, inclusive_of_start=False)]


def by_tail(recorder: ShardRecorder, after: int) -> list[int]:
    """The engine's own way."""
    return [row.position for rows in reading.tail(recorder, 0, after, chunk=5) for row in rows]


def some_events(rng: random.Random) -> list[StoredEvent]:
    """One to three first events of new streams."""
    return [StoredEvent(uuid4(), 1, "reader.test.v1", b"{}") for _ in range(rng.randint(1, 3))]


def under_the_heads_lock(recorder: ShardRecorder, batch: list[StoredEvent], rng: random.Random) -> int:
    """As the library writes; how many events that were."""
    recorder.insert_events(batch)
    return len(batch)


def by_compare_and_swap(recorder: ShardRecorder, batch: list[StoredEvent], rng: random.Random) -> int:
    """As the engine writes: take the shard from whoever has it, then append; 0 when it was taken in between."""
    (head,) = acquire(recorder, [0], threading.current_thread().name)
    time.sleep(rng.random() * DELAY_S)
    append = single_append(
        0,
        head.epoch,
        head.next_position,
        head.next_offset,
        head.next_offset,
        head.chain_hash,
        head.last_time_us,
        batch,
    )
    try:
        recorder.append([append])
    except FencedError:
        return 0
    return len(batch)


def interleave(recorder: ShardRecorder, rounds: int, writers: int, writes: list[Write]) -> int:
    """All writers begin together, again and again; how many events were written."""
    barrier = threading.Barrier(writers)
    written, failures = [0] * writers, list[Exception]()

    def writer(number: int) -> None:
        rng = random.Random(number)
        try:
            for round_number in range(rounds):
                barrier.wait(120)
                time.sleep(rng.random() * DELAY_S)
                written[number] += writes[round_number % len(writes)](recorder, some_events(rng), rng)
        except Exception as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=writer, args=(n,), name=f"writer-{n}") for n in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    return sum(written)


@figures("R7")
def test_a_tailing_reader_skips_nothing(
    recorder: ShardRecorder, monkeypatch: pytest.MonkeyPatch, figure: Figure, printed: Printed
) -> None:
    """R7: eight writers of one shard whose commits are held back, by both ways of writing and of reading."""
    append = events.store.recorder.append_in_transaction
    rng = random.Random(0)

    def held_back(*arguments: Any) -> None:
        append(*arguments)
        time.sleep(rng.random() * DELAY_S)

    monkeypatch.setattr(events.store.recorder, "append_in_transaction", held_back)
    tails = [Tail(recorder, read) for read in (by_notifications, by_tail)]
    writes: list[Write] = [under_the_heads_lock, by_compare_and_swap]
    written = interleave(recorder, figure["interleavings"], figure["writers"], writes)
    for tail in tails:
        tail.assert_saw(written)
    assert written > figure["interleavings"]
    printed("R7", interleavings=figure["interleavings"], writers=figure["writers"], events=written, skipped=0)


def test_a_position_that_is_given_before_its_turn_to_commit_is_skipped_and_noticed(
    recorder: ShardRecorder,
) -> None:
    """The check itself, with what a sequence would do: assigned at insert, visible at commit."""
    sequence = count(1)

    def from_a_sequence(recorder: ShardRecorder, batch: list[StoredEvent], rng: random.Random) -> int:
        with recorder.connection() as conn, conn.transaction():
            for stored in batch:
                position = next(sequence)
                conn.execute(
                    f'INSERT INTO "{recorder.schema}".events (shard, position, originator_id, originator_version, '
                    "topic, metadata, state) VALUES (0, %s, %s, 1, 'x.y.v1', '{}', '{}')",
                    (position, stored.originator_id),
                )
            time.sleep(rng.random() * DELAY_S)
        return len(batch)

    tails = [Tail(recorder, read) for read in (by_notifications, by_tail)]
    written = interleave(recorder, 30, 8, [from_a_sequence])
    for tail in tails:
        with pytest.raises(AssertionError):
            tail.assert_saw(written)
