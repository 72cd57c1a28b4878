"""Small batches go as one statement, large ones by COPY: both write the same, and neither writes half."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID, uuid5

import pytest
from eventsourcing.persistence import StoredEvent

from events.chain import decode_row, encode_row
from events.errors import AppendDataError, FencedError
from events.migrations import migrate
from events.store import recorder as recording
from events.store.append import ShardAppend, decode_result, encode_result, single_append
from events.store.heads import Head, acquire
from events.store.recorder import ShardRecorder, open_datastore
from nexafi.settings import Settings

_SPACE = UUID("0d9e5d3c-3c3b-4c43-9a57-5f2f0d6a4b11")
_SERVICE = "ways"
_TABLES = ("shard_head", "events", "command_results", "batches")


@pytest.fixture(params=["one statement", "copy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    chosen: str = request.param
    monkeypatch.setattr(recording, "fits", lambda _: chosen == "one statement")
    return chosen


@pytest.fixture
def store(stack: Settings, database_url: str) -> Iterator[ShardRecorder]:
    settings = stack.model_copy(update={"database_url": database_url, "shards": {_SERVICE: 2}})
    migrate(settings, (_SERVICE,))
    recorder = ShardRecorder(open_datastore(database_url, _SERVICE), service=_SERVICE)
    yield recorder
    recorder.datastore.close()


def batch(head: Head, count: int, name: str = "e") -> ShardAppend:
    """``count`` events, each with a result, after ``head``; the same content whenever it is made."""
    events = [
        StoredEvent(uuid5(_SPACE, f"{head.shard}/{name}/{i}"), 1, "ways.done.v1", b'{"n":%d}' % i)
        for i in range(count)
    ]
    made = single_append(
        head.shard, head.epoch, head.next_position, head.next_offset, head.next_offset + 1,
        head.chain_hash, head.last_time_us, events,
    )  # fmt: skip
    made.results = [
        encode_result(
            uuid5(_SPACE, f"c/{head.shard}/{name}/{i}").bytes,
            b"h" * 32,
            head.shard,
            i,
            i % 2,
            b"{}",
            made.time_us,
        )
        for i in range(count)
    ]
    return made


def rows(store: ShardRecorder) -> dict[str, list[tuple[object, ...]]]:
    """Everything that an append may write."""
    with store.connection() as conn:
        return {
            t: conn.execute(f'SELECT * FROM "{store.schema}".{t} ORDER BY 1, 2, 3, 4').fetchall()
            for t in _TABLES
        }


def test_every_shard_and_table_gets_its_rows(store: ShardRecorder, way: str) -> None:
    """Given two shards; when a batch of both is appended; then heads, events, results and batches are there."""
    heads = acquire(store, [0, 1], "me")
    appends = [batch(h, 3 + h.shard) for h in reversed(heads)]
    store.append(appends)
    found = rows(store)
    assert len(found["events"]) == len(found["command_results"]) == 7, way
    for made in appends:
        stored = [r for r in found["events"] if r[0] == made.shard]
        assert [r[1:] for r in sorted(stored)] == [decode_row(row)[1:] for row in made.rows]
        results = {r[0]: r for r in found["command_results"] if r[2] == made.shard}
        for command, request_hash, _, position, outcome, result, _ in map(decode_result, made.results):
            assert results[command][1:6] == (request_hash, made.shard, position, outcome, result)
            assert round(results[command][6].timestamp() * 1e6) == made.time_us  # type: ignore[attr-defined]
        (head,) = [h for h in acquire(store, [made.shard], "next") if h.shard == made.shard]
        assert (head.next_position, head.next_offset, head.chain_hash) == (
            made.next_position, made.next_offset, made.chain_hash,
        )  # fmt: skip


@pytest.mark.parametrize(
    "moved",
    [
        lambda a: setattr(a, "epoch", a.epoch - 1),
        lambda a: setattr(a, "position", a.position + 1),
        lambda a: setattr(a, "offset", a.offset + 1),
    ],
    ids=["epoch", "position", "offset"],
)
def test_one_head_that_moved_undoes_all(
    store: ShardRecorder, way: str, moved: Callable[[ShardAppend], None]
) -> None:
    """Given one head of two that is elsewhere; when both are appended; then neither is, and nothing else."""
    heads = acquire(store, [0, 1], "me")
    before = rows(store)
    appends = [batch(h, 2) for h in heads]
    moved(appends[1])
    with pytest.raises(FencedError):
        store.append(appends)
    assert rows(store) == before, way


@pytest.mark.parametrize("again", ["events", "results"])
def test_what_is_there_already_is_a_data_error_and_undoes_all(
    store: ShardRecorder, way: str, again: str
) -> None:
    """Given stored events and results; when a batch repeats one of them; then it is refused as a whole."""
    (head,) = acquire(store, [0], "me")
    store.append([first := batch(head, 2)])
    (head,) = acquire(store, [0], "me")
    second = batch(head, 2, "f")
    if again == "results":
        second.results = first.results
    else:
        second.rows = [renumbered(row, head.next_position + i) for i, row in enumerate(first.rows)]
    before = rows(store)
    with pytest.raises(AppendDataError):
        store.append([second])
    assert rows(store) == before, way


def renumbered(row: bytes, position: int) -> bytes:
    """The same event of the same stream at another position."""
    shard, _, originator, version, topic, metadata, state = decode_row(row)
    return encode_row(shard, position, originator.bytes, version, topic.encode(), metadata, state)


def test_the_size_decides(store: ShardRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the limit; when a batch is at it and when it is above; then one statement, then COPY."""
    used: list[str] = []

    def watch(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object) -> None:
            used.append(name)
            real(*args)

        return call

    monkeypatch.setattr(recording, "append_at_once", watch("one", recording.append_at_once))
    monkeypatch.setattr(recording, "append_in_transaction", watch("copy", recording.append_in_transaction))

    def appended(counts: Sequence[int]) -> None:
        for number, count in enumerate(counts):
            (head,) = acquire(store, [0], "me")
            store.append([batch(head, count, str(number))])

    appended([1, 60, 61])
    assert used == ["one", "one", "copy"]
