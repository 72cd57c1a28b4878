"""What must hold of the engine, as checks on a real store. Each passes on sound code and fails on a planted bug."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from structlog.testing import capture_logs

from events.errors import AppendDataError, FencedError
from events.flight import InFlight
from events.store.append import ShardAppend, append_in_transaction, single_append
from events.store.heads import Head, acquire
from tests.kit.counter import Add, Close, Open
from tests.kit.desk import Desk


async def counters(desk: Desk, count: int, **fields: Any) -> list[str]:
    """Open so many counters on shard 0 in one batch."""
    first = desk.count
    await desk.process(*(desk.record(Open(name=f"n{i}", **fields)) for i in range(count)))
    opened = {r["command_id"]: r["result"]["counter_id"] for r in desk.replies if "counter_id" in r["result"]}
    return [opened[desk.command_id(first + i)] for i in range(count)]


async def check_snapshot_and_tail_are_the_history(desk: Desk) -> None:
    """Snapshots fall in the middle of batches' work; memory, tail and replay are one."""
    made = await counters(desk, 3)
    deadline = await counters(desk, 1, expires_in_us=10**9)
    for n in range(4):
        desk.now_us += 1_000
        await desk.process(*(desk.record(Add(counter_id=c, amount=n + 1)) for c in made))
        desk.assert_sound()
    assert desk.rows("SELECT count(*) FROM {s}.snapshots")[0][0] > 0
    await desk.restart()
    desk.assert_sound()
    assert desk.writer.decider.next_due(desk.writer.shards[0].state) is not None
    answer = await desk.one(Add(counter_id=made[0], amount=1))
    assert answer["result"] == {"total": 11}
    assert (await desk.one(Close(counter_id=deadline[0])))["outcome"] == "accepted"
    desk.assert_sound()


async def check_a_snapshot_of_other_code_is_ignored(desk: Desk) -> None:
    """A snapshot counts only when the running code wrote it, and only when its digest is right."""
    (made,) = await counters(desk, 1)
    for _ in range(6):
        await desk.one(Add(counter_id=made, amount=1))
    schema = desk.writer.recorder.schema
    for version, digest, total in ((9, sha256(b"{}").digest(), 7), (1, bytes(32), 8)):
        with desk.writer.recorder.connection() as conn:
            conn.execute(
                f"UPDATE \"{schema}\".snapshots SET state = '{{}}', state_version = %s, digest = %s",
                (version, digest),
            )
        await desk.restart()
        assert (await desk.one(Add(counter_id=made, amount=1)))["result"] == {"total": total}


async def check_cuts_do_not_matter(desk: Desk) -> None:
    """The same commands in one batch on one shard, and one by one on the other."""
    for shard, size in ((0, 12), (1, 1)):
        first = desk.count
        ids = [desk.command_id(first + i) for i in range(3)]
        commands: list[Any] = [Open(name=f"n{i}") for i in range(3)]
        await desk.process(*(desk.record(c, shard=shard) for c in commands))
        opened = [next(r for r in desk.replies if r["command_id"] == i)["result"]["counter_id"] for i in ids]
        program: list[Any] = []
        for n in range(3):
            program += [Add(counter_id=c, amount=n + 1) for c in opened]
        program += [
            Add(counter_id=opened[0], amount=-6),
            Add(counter_id=opened[0], amount=-1),
            Close(counter_id=opened[1]),
        ]
        records = [desk.record(c, shard=shard) for c in program]
        for start in range(0, len(records), size):
            await desk.process(*records[start : start + size])
    bodies = []
    for shard in (0, 1):
        text = [(t, s.decode()) for _, t, s in desk.history(shard)]
        names: dict[str, str] = {}
        out = []
        for topic, state in text:
            identifier = state.split('"counter_id":"')[1][:36]
            out.append((topic, state.replace(identifier, names.setdefault(identifier, f"c{len(names)}"))))
        bodies.append(out)
    assert bodies[0] == bodies[1], "a batch is not what its commands are one by one"
    assert [r["outcome"] for r in desk.replies[:15]] == [r["outcome"] for r in desk.replies[15:]]
    desk.assert_sound()


def _append(head: Head, **changes: int) -> ShardAppend:
    """An append that only moves the offset of shard 0, from a head that may be wrong in one way."""
    values = {"epoch": head.epoch, "position": head.next_position, "offset": head.next_offset} | changes
    return single_append(
        0, values["epoch"], values["position"], values["offset"], head.next_offset + 7, head.chain_hash, head.last_time_us, []
    )  # fmt: skip


async def check_heads_are_compared(desk: Desk) -> None:
    """An append with another epoch, position or offset than the head's writes nothing, by each way of writing."""
    recorder = desk.writer.recorder
    old = desk.head()
    head = acquire(recorder, [0], "new owner")[0]

    def in_transaction(wrong: ShardAppend) -> None:
        with recorder.connection() as conn, conn.transaction():
            append_in_transaction(conn, recorder.schema, [wrong])

    for write in (lambda a: recorder.append([a]), in_transaction):
        for wrong in (
            _append(head, epoch=old.epoch),
            _append(head, position=head.next_position + 1),
            _append(head, offset=head.next_offset + 1),
        ):
            with pytest.raises(FencedError):
                write(wrong)
        assert desk.head() == head, "a refused append moved the head"
    recorder.append([_append(head)])
    assert desk.head().next_offset == head.next_offset + 7


async def check_a_command_has_one_effect(desk: Desk) -> None:
    """Again in the same batch, again while the first is in flight, and again long after: one effect, one answer."""
    (made,) = await counters(desk, 1)
    add = Add(counter_id=made, amount=1)
    same = desk.count
    desk.count += 1
    await desk.process(desk.record(add, same), desk.record(add, same))
    flying = desk.count
    desk.count += 1
    append = desk.writer.recorder.append

    def slowly(shards: Any) -> None:
        import time

        time.sleep(0.1)
        append(shards)

    desk.writer.recorder.append = slowly  # type: ignore[method-assign]
    await desk.process(desk.record(add, flying), settle=False)
    await desk.process(desk.record(add, flying))
    desk.writer.recorder.append = append  # type: ignore[method-assign]
    await desk.process(desk.record(add, same))
    assert desk.writer.stats.recoveries == 0, "the database had to refuse it"
    await desk.restart()
    await desk.process(desk.record(add, flying), desk.record(add, same, request_hash="bb"))
    totals = [r["result"].get("total") for r in desk.replies[1:]]
    assert totals == [1, 1, 2, 2, 1, 2, None], desk.replies[1:]
    assert [r["conflict"] for r in desk.replies[1:]] == [False] * 6 + [True]
    assert [t for _, t, _ in desk.history()] == ["counter.opened.v1", *["counter.added.v1"] * 2]
    assert desk.rows("SELECT count(*) FROM {s}.dead_letters") == [(0,)]
    desk.assert_sound()


async def check_a_claim_is_won_once(desk: Desk) -> None:
    """Two shards in one poll, then another batch: one of them has the name."""
    await desk.process(
        desk.record(Open(name="a", unique="golden"), shard=0),
        desk.record(Open(name="b", unique="golden"), shard=1),
    )
    await desk.process(desk.record(Open(name="c", unique="golden"), shard=1))
    assert sorted(r["outcome"] for r in desk.replies) == ["accepted", "rejected", "rejected"]
    assert {r["result"].get("reason") for r in desk.replies} == {None, "already-claimed"}
    assert len(desk.history(0)) + len(desk.history(1)) == 1
    assert desk.rows("SELECT count(*) FROM {s}.claims") == [(1,)]
    desk.assert_sound()


async def check_deadlines_are_acted_on_once_and_first(desk: Desk) -> None:
    """Not before its time; before the batch that comes after it; once; and also after a restart."""
    kept, late = await counters(desk, 2, expires_in_us=50_000)
    (later,) = await counters(desk, 1, expires_in_us=1_000_000_000)
    await desk.one(Close(counter_id=kept))
    desk.now_us += 40_000
    await desk.writer.run_due()
    assert (await desk.one(Add(counter_id=late, amount=1)))["outcome"] == "accepted", "closed before its time"
    await desk.restart()
    desk.now_us += 40_000
    answer = await desk.one(Add(counter_id=late, amount=1))
    assert answer["result"].get("reason") == "counter-not-found", (
        "a command came before a deadline that had passed"
    )
    for _ in range(3):
        desk.now_us += 1_000_000
        assert await desk.writer.run_due() == {}
        assert await desk.writer.settle() == {}
    assert [t for _, t, _ in desk.history()].count("counter.closed.v1") == 2
    assert (await desk.one(Add(counter_id=later, amount=1)))["outcome"] == "accepted", (
        "closed before its time"
    )
    desk.assert_sound()


async def check_time_never_falls(desk: Desk) -> None:
    """The clock jumps back by an hour: the history's time goes on all the same."""
    (made,) = await counters(desk, 1)
    for jump in (1_000, -3_600_000_000, 5):
        desk.now_us += jump
        await desk.one(Add(counter_id=made, amount=1))
    times = [
        t for (t,) in desk.rows("SELECT time_us FROM {s}.batches WHERE shard = 0 ORDER BY first_position")
    ]
    assert times == sorted(set(times)), times


async def check_one_bad_command_is_set_aside_alone(desk: Desk) -> None:
    """A defect of the domain, and a row that the database refuses: each costs its own command and no other.

    A row that is refused costs one reading of the shard, and everything before it is committed by then.
    """
    await _set_bad_ones_aside(desk)
    assert desk.writer.stats.recoveries == 2, "one for each command that the database refused"


async def check_halves_find_it_when_the_database_can_not_be_asked(desk: Desk) -> None:
    """The same, while looking for the bad command fails."""
    desk.writer._isolate = lambda flight, error: _without_asking(desk, flight, error)  # type: ignore[method-assign]
    await _set_bad_ones_aside(desk)


async def _without_asking(desk: Desk, flight: InFlight, error: AppendDataError) -> None:
    desk.writer._suspects.refused(flight.units, None, error)


async def _set_bad_ones_aside(desk: Desk) -> None:
    made = await counters(desk, 4)
    schema = desk.writer.recorder.schema
    with desk.writer.recorder.connection() as conn:
        conn.execute(
            f'INSERT INTO "{schema}".events (shard, position, originator_id, originator_version, topic, metadata, state) '
            "VALUES (99, 1, %s, 2, 'x.y.v1', '{}', '{}')",
            (made[2],),
        )
    await desk.process(
        *(desk.record(Add(counter_id=c, amount=666 if n == 1 else 1)) for n, c in enumerate([*made, *made]))
    )
    outcomes = [r["outcome"] for r in desk.replies[4:]]
    assert sorted(outcomes) == ["accepted"] * 5 + ["failed"] * 3, outcomes
    causes = [e for (e,) in desk.rows("SELECT error FROM {s}.dead_letters ORDER BY record_offset")]
    assert causes == ["ValueError", "AppendDataError", "AppendDataError"]
    assert desk.head().next_offset == desk.offsets[0], "an offset was not passed, or too many were"
    with desk.writer.recorder.connection() as conn:
        conn.execute(f'DELETE FROM "{schema}".events WHERE shard = 99')
    desk.assert_sound()


async def check_a_deadline_that_the_database_refuses_stops_nobody(desk: Desk) -> None:
    """What it would write is refused for ever: that is said once, and commands and other deadlines go on."""
    bad, good = await counters(desk, 2, expires_in_us=1_000)
    (other,) = await counters(desk, 1)
    schema = desk.writer.recorder.schema
    with desk.writer.recorder.connection() as conn:
        conn.execute(
            f'INSERT INTO "{schema}".events (shard, position, originator_id, originator_version, topic, metadata, state) '
            "VALUES (99, 1, %s, 2, 'x.y.v1', '{}', '{}')",
            (bad,),
        )
    desk.now_us += 10_000
    with capture_logs() as said:
        for total in (1, 2):
            assert (await desk.one(Add(counter_id=other, amount=1)))["result"] == {"total": total}
    assert desk.writer.stats.recoveries == 1
    assert len([entry for entry in said if entry["event"] == "deadline set aside"]) == 1
    assert (await desk.one(Add(counter_id=good, amount=1)))["outcome"] == "rejected", "it has not expired"
    with desk.writer.recorder.connection() as conn:
        conn.execute(f'DELETE FROM "{schema}".events WHERE shard = 99')
    desk.assert_sound()


async def check_an_unconfirmed_commit_is_settled_by_the_store(desk: Desk) -> None:
    """The connection breaks before a commit, and after one: what the store has, happened, and once."""
    from events.errors import UnknownCommitError

    (made,) = await counters(desk, 1)
    append = desk.writer.recorder.append
    broken: list[str] = []

    def break_it(shards: Any) -> None:
        if len(broken) < 2:
            broken.append("x")
            if len(broken) == 2:
                append(shards)
            raise UnknownCommitError("the connection broke")
        append(shards)

    desk.writer.recorder.append = break_it  # type: ignore[method-assign]
    for _ in range(3):
        await desk.process(desk.record(Add(counter_id=made, amount=1)))
    desk.writer.recorder.append = append  # type: ignore[method-assign]
    assert (await desk.one(Add(counter_id=made, amount=1)))["result"] == {"total": 4}
    assert desk.rows("SELECT count(*) FROM {s}.dead_letters") == [(0,)]
    desk.assert_sound()


async def check_another_owner_ends_this_one(desk: Desk) -> None:
    """After a takeover the old writer's next batch is refused and it lets go; the new one goes on where it stood."""
    from events.flight import ShardsLostError

    (made,) = await counters(desk, 1)
    other = desk.new_writer("other")
    await other.take([0, 1])
    record = desk.record(Add(counter_id=made, amount=1))
    await desk.writer.process([record])
    with pytest.raises(ShardsLostError):
        await desk.writer.settle()
    assert len(desk.history()) == 1, "a stale writer wrote"
    await desk.close()
    desk.writer = other
    await desk.process(record)
    assert len(desk.history()) == 2
    desk.assert_sound()
