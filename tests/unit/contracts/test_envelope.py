"""Envelopes: what is written is read back, and whatever can not be read is said to be so."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.common.envelope import CommandEnvelope, EventEnvelope, MalformedEnvelopeError

COMMAND = CommandEnvelope(
    "00000000-0000-5000-8000-000000000001", "ledger.x.v1", "acme", "me", "aa", "gw:1", "c"
)
EVENT = EventEnvelope(
    "e", "ledger.y.v1", "nexafi/ledger", "s", 1_000_000, "acme", "me", "h", 3, 7, 1, "c", "k"
)


def test_round_trip() -> None:
    assert CommandEnvelope.read(COMMAND.headers()).id == COMMAND.id
    assert EventEnvelope.read(EVENT.headers()) == EVENT


@pytest.mark.parametrize("bad", [None, b"\xff\xfe"])
@pytest.mark.parametrize("name", ["ce_id", "ce_type", "ce_tenant", "ce_actor"])
def test_a_header_without_a_readable_value_is_malformed(name: str, bad: Any) -> None:
    for kind, envelope in ((CommandEnvelope, COMMAND), (EventEnvelope, EVENT)):
        headers: Any = [(k, bad if k == name else v) for k, v in envelope.headers()]
        with pytest.raises(MalformedEnvelopeError):
            kind.read(headers)


@pytest.mark.parametrize("name", ["ce_id", "ce_type", "ce_tenant"])
def test_an_absent_header_is_named(name: str) -> None:
    with pytest.raises(MalformedEnvelopeError, match=name):
        CommandEnvelope.read([(k, v) for k, v in COMMAND.headers() if k != name])
