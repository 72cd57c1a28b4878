"""Many bad records among good ones: each bad one is set aside with its bytes and cause, no good one waits long."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from nexafi.ids import command_id, shard_of
from schemas.common.envelope import CommandEnvelope
from tests.kit.counter import Add
from tests.kit.engine import Engine, assert_no_gaps, assert_published_equals_stored
from tests.kit.load import open_counters
from tests.kit.soak import Figure, Printed, figures

Raw = tuple[bytes, list[tuple[bytes | str, bytes]]]
#: Seconds in which nothing good got done. A stall of R14 is 5 s; a machine that others use as well gets more.
STALL_S = 30.0
START_S = 180.0


def headers(key: str, kind: str = Add.TYPE) -> list[tuple[str, bytes]]:
    return CommandEnvelope(
        command_id("acme", "tester", "POST", "/x", key), kind, "acme", "tester", "aa"
    ).headers()


def bad(number: int, counter: str, refused_by_database: str) -> tuple[str, bytes, list[tuple[str, bytes]]]:
    """The error that this record must be set aside with, its value and its headers."""
    add = Add(counter_id=counter, amount=1).model_dump_json().encode()
    if number % 100 == 99:  # each costs a search by halves
        victim = Add(counter_id=refused_by_database, amount=1).model_dump_json().encode()
        return "AppendDataError", victim, headers(f"bad-{number}")
    kinds = (
        ("UnreadableRecordError", b"\xff\xfe not json %d" % number, headers(f"bad-{number}")),
        ("UnreadableRecordError", add, [("nothing", b"here")]),
        ("UnreadableRecordError", add, headers(f"bad-{number}", "other.service.v1")),
        (
            "UnreadableRecordError",
            b'{"counter_id":"%b","amount":1.5}' % counter.encode(),
            headers(f"bad-{number}"),
        ),
        (
            "ValueError",
            Add(counter_id=counter, amount=666).model_dump_json().encode(),
            headers(f"bad-{number}"),
        ),
    )
    return kinds[number % len(kinds)]


@figures("R14")
async def test_poison_is_set_aside_and_stops_nobody(engine: Engine, figure: Figure, printed: Printed) -> None:
    """R14."""
    process = engine.spawn()
    counters = await open_counters(engine, 12)
    shard = shard_of(counters[0])
    mine = [c for c in counters if shard_of(c) == shard]
    victim, mine = mine[0], mine[1:]
    process.terminate()
    process.wait(60)
    # Somebody with a database client has put an event where the writer will write for this one.
    engine.query_write(
        "INSERT INTO {s}.events (shard, position, originator_id, originator_version, topic, metadata, state) "
        "VALUES (99, 1, %s, 2, 'counter.added.v1', '{}', '{}')",
        victim,
    )
    every = figure["good"] // figure["bad"]
    expected: Counter[str] = Counter()
    bytes_of: dict[int, bytes] = {}
    sends = []
    for number in range(figure["good"]):
        body = Add(counter_id=mine[number % len(mine)], amount=1).model_dump_json().encode()
        sends.append((body, headers(f"good-{number}")))
        if number % every == every - 1:
            error, value, head = bad(number // every, mine[0], victim)
            expected[error] += 1
            bytes_of[len(sends)] = value
            sends.append((value, head))
    for start in range(0, len(sends), 500):
        await asyncio.gather(
            *(
                engine.producer.send_raw(engine.service, shard, b"k", v, h)
                for v, h in sends[start : start + 500]
            )
        )
    engine.spawn()
    stall = await longest_stall(engine, figure["good"])
    letters = engine.query(query := "SELECT error, cause, value FROM {s}.dead_letters")
    for _ in range(600):  # the last bad record stands behind the last good one
        if len(letters) >= figure["bad"]:
            break
        await asyncio.sleep(0.1)
        letters = await asyncio.to_thread(engine.query, query)
    assert Counter(e for e, _, _ in letters) == expected
    assert all(cause for _, cause, _ in letters)
    assert Counter(bytes(v) for _, _, v in letters) == Counter(bytes_of.values()), (
        "bytes are not those that came"
    )
    engine.query_write("DELETE FROM {s}.events WHERE shard = 99")
    totals = engine.counters()
    assert sum(totals[c] for c in mine) == figure["good"]
    assert_no_gaps(engine)
    await engine.relay_settled()
    assert_published_equals_stored(engine, await engine.published())
    printed(
        "R14",
        good=figure["good"],
        bad=len(letters),
        causes=", ".join(f"{k} {n}" for k, n in sorted(expected.items())),
        longest_stall_s=round(stall, 2),
    )


async def longest_stall(engine: Engine, wanted: int) -> float:
    """The longest time in which no good command got done, once the first was."""
    done, longest, since = 0, 0.0, time.monotonic()
    while done < wanted:
        (found,) = (n for (n,) in await asyncio.to_thread(engine.query, "SELECT count(*) FROM {s}.events WHERE topic = 'counter.added.v1' AND shard < 99"))  # fmt: skip
        now = time.monotonic()
        if found > done:
            longest = max(longest, now - since) if done else 0.0
            done, since = found, now
        assert now - since < (STALL_S if done else START_S), f"nothing for long after {done} of {wanted}"
        await asyncio.sleep(0.05)
    return longest
