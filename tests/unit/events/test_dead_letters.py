"""Dead letters keep the very bytes, an item of a bulk alone, and a cause that PostgreSQL can store."""

from __future__ import annotations

from typing import Any

import orjson
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from events.codec import CommandCodec
from events.dead_letters import Letter, alone, decode_headers, encode_headers, letter_of, record_to_send
from nexafi.ids import derived_id
from schemas.common.envelope import CommandEnvelope
from schemas.common.outcomes import Bulk
from tests.kit.counter import Add, CounterDecider

BULK_ID = "00000000-0000-5000-8000-000000000001"
COUNTER = "01a20d65-4d01-800c-915e-104e3ed20108"


def record(headers: list[tuple[str, Any]], value: bytes | None) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord("c.commands", 1, 7, 0, 0, b"k", value, None, 1, 1, headers)  # type: ignore[arg-type]


def bulk(amounts: list[int]) -> ConsumerRecord[bytes, bytes]:
    items = [
        {
            "id": derived_id(BULK_ID, i),
            "hash": f"{i:02x}",
            "type": Add.TYPE,
            "data": {"counter_id": COUNTER, "amount": amount},
        }
        for i, amount in enumerate(amounts)
    ]
    head = CommandEnvelope(BULK_ID, Bulk.TYPE, "acme", "tester", "", "gw:1:0")
    return record(head.headers(), to_json({"items": items}))


@given(
    st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=9), st.none() | st.binary(max_size=9)))
)
def test_headers_come_back_to_the_byte(headers: list[tuple[str, bytes | None]]) -> None:
    assert decode_headers(encode_headers(headers)) == headers


def test_headers_of_an_earlier_release_are_read() -> None:
    assert decode_headers(b'[["ce_id","x"],["n","\\\\xff"]]') == [("ce_id", b"x"), ("n", b"\\xff")]


def test_a_record_is_kept_as_it_is() -> None:
    headers = [("ce_id", b"\xff"), ("nothing", None), ("ce_type", b"other.x.v1")]
    letter = letter_of(record(headers, b"\x00\xff"), ValueError("about \x00 in /a"))
    assert decode_headers(letter.headers) == headers
    assert (letter.key, letter.value, letter.command_id) == (b"k", b"\x00\xff", None)
    assert (letter.error, letter.cause) == ("ValueError", "about \\0 in /a")


def test_a_header_without_a_value_where_the_id_should_be_is_no_obstacle() -> None:
    assert letter_of(record([("ce_id", None)], None), ValueError("x")).command_id is None


def test_one_item_of_a_bulk_is_kept_as_a_command_of_its_own() -> None:
    whole = bulk([1, 666, 10**30])
    for item, amount in enumerate((1, 666, 10**30)):
        letter = letter_of(whole, ValueError("x"), item=item, command_id=derived_id(BULK_ID, item))
        again = record(decode_headers(letter.headers), letter.value)
        (unit,) = CommandCodec("counter", CounterDecider.commands).decode(again)
        assert unit.command == Add(counter_id=COUNTER, amount=amount)
        assert unit.envelope.id == derived_id(BULK_ID, item) == letter.command_id
        assert unit.request_hash == bytes([item])
        assert (unit.envelope.tenant, unit.envelope.actor) == ("acme", "tester")
        assert len(letter.value or b"") < len(whole.value or b"")


def test_an_item_that_an_earlier_release_kept_with_its_bulk_is_sent_alone() -> None:
    whole = bulk([1, 666])
    letter = stored(whole, 1, derived_id(BULK_ID, 1))
    headers, value = record_to_send(letter)
    assert dict(headers)["ce_id"] == derived_id(BULK_ID, 1).encode()
    assert orjson.loads(value or b"") == {"counter_id": COUNTER, "amount": 666}


def test_a_bulk_that_can_not_be_read_is_kept_and_sent_whole() -> None:
    broken = record(CommandEnvelope(BULK_ID, Bulk.TYPE, "acme", "tester").headers(), b"{")
    letter = letter_of(broken, ValueError("bulk"))
    assert (letter.value, letter.command_id) == (b"{", BULK_ID)
    assert record_to_send(stored(broken, 0, BULK_ID)) == (broken.headers, b"{")
    assert alone(list(broken.headers), b'{"items": [7]}', 0, BULK_ID) == (broken.headers, b'{"items": [7]}')


def stored(of: ConsumerRecord[bytes, bytes], item: int, command_id: str) -> Letter:
    from datetime import UTC, datetime

    return Letter(
        "c",
        1,
        of.topic,
        of.partition,
        of.offset,
        item,
        command_id,
        list(of.headers),
        of.key,
        of.value,
        "ValueError",
        "x",
        datetime.now(UTC),
        None,
        None,
        None,
    )
