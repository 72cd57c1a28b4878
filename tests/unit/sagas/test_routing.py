"""Which events the router copies to which saga, and that it copies them unchanged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nexafi.ids import derived_id, make_id
from sagas.payment import refund, saga
from sagas.routing import BY_PAYMENT_ID, BY_SUBJECT, OBSERVED, route
from schemas.ai.events import EVENTS as AI
from schemas.common.envelope import CommandEnvelope, EventEnvelope, MalformedEnvelopeError
from schemas.compliance.events import EVENTS as COMPLIANCE
from schemas.ledger.events import EVENTS as LEDGER
from schemas.payments.events import EVENTS as PAYMENTS
from schemas.sagas.commands import ObserveEvent
from tests.kit.scenario import START_US

PAYMENT = make_id(START_US, 13, "payment")
EVENT_ID = "0b0f7b7e-5d0c-5d6f-9f0e-111111111111"
BIG = 10**30 + 1


def record(kind: str, saga_id: str = "", subject: str = PAYMENT, **data: Any) -> tuple[Any, bytes]:
    """An event as its relay publishes it."""
    envelope = EventEnvelope(
        EVENT_ID,
        kind,
        f"nexafi/{kind.partition('.')[0]}",
        subject,
        START_US,
        "acme",
        "client:7",
        "a-history",
        3,
        42,
        1,
        "a-correlation",
        "a-cause",
        "00-trace",
        saga_id,
    )
    return envelope.headers(), json.dumps(data).encode()


@pytest.mark.parametrize("kind", sorted(BY_SUBJECT))
def test_what_callers_cause_goes_to_the_payment_in_the_subject(kind: bytes) -> None:
    routed = route(*record(kind.decode(), amount=BIG), "payments", 8)
    assert routed is not None
    assert routed.shard == 13 % 8
    assert routed.command_id == derived_id(PAYMENT, EVENT_ID)
    envelope = CommandEnvelope.read(routed.headers)
    assert (envelope.id, envelope.type) == (routed.command_id, ObserveEvent.TYPE)
    assert (envelope.tenant, envelope.saga_id, envelope.reply_to) == ("acme", PAYMENT, "")
    assert (envelope.correlation_id, envelope.traceparent) == ("a-correlation", "00-trace")
    assert envelope.time_us == START_US
    seen = ObserveEvent.model_validate_json(routed.value)
    assert seen == ObserveEvent(
        saga_id=PAYMENT,
        event_id=EVENT_ID,
        event_type=kind.decode(),
        store="payments",
        shard=3,
        position=42,
        time_us=START_US,
        tenant="acme",
        actor="client:7",
        data={"amount": BIG},  # exact beyond 64 bits
    )


def test_an_officers_decision_goes_to_the_payment_in_its_data() -> None:
    case = make_id(START_US, 1, "case")
    routed = route(*record("compliance.case-decided.v1", subject=case, payment_id=PAYMENT), "compliance", 8)
    assert routed is not None
    assert CommandEnvelope.read(routed.headers).saga_id == PAYMENT


def test_what_a_saga_caused_goes_back_to_it() -> None:
    hold = make_id(START_US, 5, "hold")
    routed = route(*record("ledger.hold-placed.v1", PAYMENT, hold, hold_id=hold), "ledger", 64)
    assert routed is not None
    assert routed.shard == 13
    refused = route(*record("ai.command-refused.v1", PAYMENT, hold, reason="x"), "ai", 64)
    assert refused is not None


@pytest.mark.parametrize(
    ("kind", "saga_id"),
    [
        ("ledger.hold-placed.v1", ""),  # a hold of a caller's own
        ("ledger.transaction-posted.v1", ""),
        ("ledger.account-opened.v1", PAYMENT),
        ("payments.payment-scored.v1", PAYMENT),  # the saga said so itself
        ("payments.payment-held.v1", PAYMENT),
        ("compliance.case-opened.v1", PAYMENT),
        ("of-the-future.v1", PAYMENT),
    ],
)
def test_what_no_saga_needs_is_not_even_parsed(kind: str, saga_id: str) -> None:
    headers, _ = record(kind, saga_id)
    assert route(headers, b"{ not json", "ledger", 8) is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("compliance.case-decided.v1", b"{ not json"),
        ("compliance.case-decided.v1", b"{}"),
        ("compliance.case-decided.v1", b"[]"),
        ("compliance.case-decided.v1", b'{"payment_id": "no id"}'),
    ],
)
def test_an_event_that_must_be_routed_and_can_not_is_an_error(kind: str, value: bytes) -> None:
    headers, _ = record(kind)
    with pytest.raises(MalformedEnvelopeError):
        route(headers, value, "compliance", 8)


def test_a_missing_header_is_an_error() -> None:
    headers, value = record("payments.payment-initiated.v1")
    with pytest.raises(MalformedEnvelopeError, match="ce_position"):
        route([h for h in headers if h[0] != "ce_position"], value, "payments", 8)


def test_the_types_exist() -> None:
    """A misspelt type would never be routed, and nobody would notice before a payment hangs."""
    refusals = {f"{s}.command-refused.v1" for s in ("payments", "ledger", "compliance", "ai")}
    known = set(PAYMENTS) | set(LEDGER) | set(COMPLIANCE) | set(AI) | refusals
    assert {kind.decode() for kind in OBSERVED | BY_SUBJECT | BY_PAYMENT_ID} <= known
    assert BY_SUBJECT | BY_PAYMENT_ID <= OBSERVED
    assert saga.OBSERVED & refund.OBSERVED
