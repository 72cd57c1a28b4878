"""Identifiers never change: what is stored was named by them."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from nexafi.ids import MAX_SHARDS, command_id, derived_id, is_id, make_id, partition_for, shard_of

COMMAND = "6f0c2f0e-6a5f-5b8e-9d35-4e0a0f3b7c11"


def test_vectors() -> None:
    assert command_id("acme", "key-1", "POST", "/v1/ledgers", "k") == "e3d515e9-2033-5ca1-91e7-1c406b478e6f"
    assert derived_id(COMMAND, "expire") == "a19af6f9-f51e-5624-9102-77b99a539da7"
    assert derived_id(COMMAND, "item", 7) == "29eed295-9645-5624-84de-6a3d3bb3cf77"
    assert [partition_for(COMMAND, n) for n in (1, 2, 8, 64)] == [0, 1, 1, 25]
    assert make_id(1_767_225_600_123_456, 3, COMMAND) == "019b76da-a87b-800c-9089-41c8cdc9ef35"
    assert (
        make_id(1_767_225_600_123_456, 1023, COMMAND, "transaction", 499)
        == "019b76da-a87b-8ffe-b0c0-d9e42e750a40"
    )


@given(
    st.integers(0, 253_402_300_799_999_999),
    st.integers(0, MAX_SHARDS - 1),
    st.uuids().map(str),
    st.sampled_from(["", "hold", "transaction"]),
    st.integers(0, 9_999),
)
def test_an_id_has_the_layout_of_rfc_9562(
    time_us: int, shard: int, command: str, kind: str, index: int
) -> None:
    identifier = make_id(time_us, shard, command, kind, index)
    value, rest = UUID(identifier).int, xxh64_intdigest(f"{command}/{kind}/{index}".encode())
    assert value >> 80 == time_us // 1000
    assert value >> 76 & 0xF == 8
    assert value >> 66 & 0x3FF == shard == shard_of(identifier)
    assert value >> 62 & 0b11 == 0b10
    assert (value >> 64 & 0b11) << 62 | value & (1 << 62) - 1 == rest
    assert identifier == str(UUID(identifier))
    assert is_id(identifier)


def test_other_identifiers_have_no_shard() -> None:
    for other in (
        COMMAND,
        "x",
        make_id(1, 1, COMMAND).upper(),
        make_id(1, 1, COMMAND) + "0",
        make_id(1, 1, COMMAND) + "\n",
    ):
        assert not is_id(other)
        with pytest.raises(ValueError, match="not a NexaFi id"):
            shard_of(other)
