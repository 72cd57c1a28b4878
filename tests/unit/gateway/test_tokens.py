"""Consistency tokens: opaque, merged by maximum, bounded."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.common import tokens

SOURCES = st.from_regex(r"\A[a-z][a-z0-9-]{0,12}/(0|[1-9][0-9]{0,2})\Z")
POSITIONS = st.dictionaries(SOURCES, st.integers(0, 2**63 - 1), max_size=20)


@given(POSITIONS)
def test_what_is_encoded_is_decoded(positions: dict[str, int]) -> None:
    assert tokens.decode(tokens.encode(positions)) == positions


@given(POSITIONS, POSITIONS)
def test_several_tokens_merge_by_maximum(a: dict[str, int], b: dict[str, int]) -> None:
    merged = tokens.decode(f"{tokens.encode(a)}, {tokens.encode(b)}")
    assert merged == {k: max(a.get(k, -1), b.get(k, -1)) for k in a | b}


def test_one_equals_encode() -> None:
    assert tokens.one("payment-saga", 7, 12) == tokens.encode({"payment-saga/7": 12})


def b64(text: str) -> str:
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "value",
    [
        "%%%",
        "é",
        b64("[]"),
        b64("{"),
        b64('{"ledger/0":1.0}'),
        b64('{"ledger/0":true}'),
        b64('{"ledger/0":-1}'),
        b64('{"ledger/0":9223372036854775808}'),
        b64('{"ledger":1}'),
        b64('{"../x/0":1}'),
        b64("[" * 2000),
        "a" * (tokens.MAX_CHARS + 1),
        b64("{" + ",".join(f'"s/{i}":1' for i in range(tokens.MAX_ENTRIES + 1)) + "}"),
    ],
)
def test_what_is_not_a_token_is_refused(value: str) -> None:
    with pytest.raises(tokens.MalformedTokenError):
        tokens.decode(value)


def test_a_token_is_bounded() -> None:
    with pytest.raises(tokens.TokenTooLargeError):
        tokens.encode({f"ledger/{i}": 1 for i in range(tokens.MAX_ENTRIES + 1)})
    with pytest.raises(tokens.TokenTooLargeError):
        tokens.encode({f"a-very-long-name-of-a-store/{i}": 2**62 for i in range(tokens.MAX_ENTRIES)})


def test_three_services_of_64_shards_fit_into_a_header_of_a_proxy() -> None:
    positions = {f"{s}/{i}": 10**7 for s in ("ledger", "payments", "compliance") for i in range(64)}
    token = tokens.encode(positions)
    assert tokens.decode(token) == positions
    assert len(token) < 8 * 1024
