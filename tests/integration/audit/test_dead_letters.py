"""Records that can not be processed: listed, shown, sent again and discarded, on real servers."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import orjson

from nexafi.ids import command_id, derived_id, shard_of
from schemas.common.envelope import CommandEnvelope
from schemas.common.outcomes import Bulk
from tests.integration.audit.conftest import Command
from tests.kit.counter import Add, Open
from tests.kit.engine import Engine

BULK_ID = command_id("acme", "tester", "POST", "/bulk", "1")


async def letters_of(engine: Engine, nexafi: Command, count: int, *options: str) -> list[dict[str, Any]]:
    """The letters that `list` shows, as soon as there are ``count``."""
    deadline = time.monotonic() + 90
    arguments = ("dead-letters", "list", "--service", engine.service, "--json", *options)
    while True:
        result = await asyncio.to_thread(nexafi, *arguments)
        found = [json.loads(line) for line in result.stdout.splitlines()]
        if len(found) >= count or time.monotonic() > deadline:
            assert len(found) == count, found
            return found
        await asyncio.sleep(0.3)


async def test_letters_are_listed_shown_sent_again_and_discarded(engine: Engine, nexafi: Command) -> None:
    # given a counter, three records that nobody can read, and a command on which the domain stumbles
    engine.spawn()
    opened = await engine.send(Open(name="c"), "open")
    assert opened is not None
    counter = str(opened.result["counter_id"])
    shard = shard_of(counter)
    unread = CommandEnvelope(command_id("acme", "t", "POST", "/x", "1"), Add.TYPE, "acme", "t", "aa")
    send = engine.producer.send_raw
    await send(engine.service, shard, b"k", b"\xff not json", unread.headers())
    await send(engine.service, shard, b"k", b"{}", [("nothing", b"here")])
    await send(
        engine.service, shard, b"k", b"{}", CommandEnvelope(unread.id, "other.x.v1", "a", "b").headers()
    )
    assert await engine.send(Add(counter_id=counter, amount=666), "poison", wait_s=5) is not None

    # then they are listed, and filters find them by shard, cause and time
    letters = await letters_of(engine, nexafi, 4)
    assert [x["error"] for x in letters] == ["UnreadableRecordError"] * 3 + ["ValueError"]
    assert len(await letters_of(engine, nexafi, 1, "--cause", "CE_ID is missing")) == 1
    assert await letters_of(engine, nexafi, 0, "--shard", str(1 - shard)) == []
    assert await letters_of(engine, nexafi, 0, "--since", "2199-01-01") == []
    table = await asyncio.to_thread(nexafi, "dead-letters", "list", "--service", engine.service)
    assert letters[0]["letter"] in table.stdout

    # and one can be looked at, with its bytes
    shown = json.loads((await asyncio.to_thread(nexafi, "dead-letters", "show", letters[0]["letter"])).stdout)
    assert (shown["value"], shown["key"], shown["headers"]["ce_id"]) == ("\\xff not json", "k", unread.id)

    # when one is sent again it comes back as a new letter with the same bytes; discarded ones are out of sight
    again = await asyncio.to_thread(nexafi, "dead-letters", "retry", letters[0]["letter"])
    assert "sent again as" in again.stdout
    waiting = await letters_of(engine, nexafi, 4)
    newest = json.loads(
        (await asyncio.to_thread(nexafi, "dead-letters", "show", waiting[-1]["letter"])).stdout
    )
    assert (newest["value"], newest["headers"]) == (shown["value"], shown["headers"])
    await asyncio.to_thread(
        nexafi,
        "dead-letters",
        "discard",
        "--why",
        "test",
        "--service",
        engine.service,
        "--cause",
        "ce_id",
        "--yes",
    )
    assert len(await letters_of(engine, nexafi, 3)) == 3
    everything = await letters_of(engine, nexafi, 5, "--all")
    assert sorted(x["state"].split(" ")[0] for x in everything) == [
        "discarded",
        "sent",
        "waits",
        "waits",
        "waits",
    ]
    await asyncio.to_thread(nexafi, "dead-letters", "show", f"{engine.service}/999", status=2)
    await asyncio.to_thread(nexafi, "dead-letters", "retry", status=2)


async def test_what_is_sent_again_happens_once(engine: Engine, nexafi: Command) -> None:
    """One append fails on data that somebody put in the way; when that is gone, the letter is sent twice."""
    process = engine.spawn()
    opened = await engine.send(Open(name="c"), "open")
    assert opened is not None
    counter = str(opened.result["counter_id"])
    process.terminate()
    process.wait(60)
    engine.query_write(
        "INSERT INTO {s}.events (shard, position, originator_id, originator_version, topic, metadata, state) "
        "VALUES (99, 1, %s, 2, 'counter.added.v1', '{}', '{}')",
        counter,
    )
    engine.spawn()
    failed = await engine.send(Add(counter_id=counter, amount=5), "add")
    assert failed is not None
    assert failed.outcome == "failed"
    (letter,) = await letters_of(engine, nexafi, 1)
    engine.query_write("DELETE FROM {s}.events WHERE shard = 99")
    for _ in range(2):
        await asyncio.to_thread(nexafi, "dead-letters", "retry", letter["letter"])
    last = await engine.send(Add(counter_id=counter, amount=1), "one more")
    assert last is not None
    assert last.result == {"total": 6}
    assert await letters_of(engine, nexafi, 0) == []


async def test_an_item_of_a_bulk_is_sent_again_alone(engine: Engine, nexafi: Command) -> None:
    engine.spawn()
    opened = await engine.send(Open(name="c"), "open")
    assert opened is not None
    counter = str(opened.result["counter_id"])
    items = [
        {
            "id": derived_id(BULK_ID, i),
            "hash": "aa",
            "type": Add.TYPE,
            "data": {"counter_id": counter, "amount": a},
        }
        for i, a in enumerate((1, 666, 2))
    ]
    head = CommandEnvelope(BULK_ID, Bulk.TYPE, "acme", "tester")
    await engine.producer.send_raw(
        engine.service, shard_of(counter), b"k", orjson.dumps({"items": items}), head.headers()
    )
    (letter,) = await letters_of(engine, nexafi, 1)
    assert (letter["item"], letter["command_id"]) == (1, items[1]["id"])
    await asyncio.to_thread(nexafi, "dead-letters", "retry", letter["letter"])
    (second,) = await letters_of(engine, nexafi, 1)
    assert (second["item"], second["command_id"], second["type"]) == (0, items[1]["id"], Add.TYPE)
    total = await engine.send(Add(counter_id=counter, amount=1), "one more")
    assert total is not None
    assert total.result == {"total": 4}
