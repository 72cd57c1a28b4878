"""What a saga's timer does carries the correlation of the command that began it all: a search for it finds everything."""

from __future__ import annotations

from typing import Any

import pytest

from events.codec import due_unit
from events.decider import Accepted, Context, EventMeta
from nexafi.ids import derived_id
from sagas.payment.decider import PaymentSagaDecider, State
from schemas.sagas.commands import ObserveEvent
from tests.kit.scenario import START_US
from tests.unit.sagas.kit import INITIATED, PAYMENT, REFUND_REQUESTED, SHARD

BEGAN = "the-request-of-a-client"


def begun(kind: str, data: dict[str, Any], correlation: str) -> tuple[PaymentSagaDecider, State]:
    """A saga that began with this event."""
    decider = PaymentSagaDecider()
    state = decider.initial(SHARD)
    event = ObserveEvent(
        saga_id=PAYMENT, event_id="e", event_type=kind, store="payments", shard=SHARD, position=1,
        time_us=START_US, tenant="acme", actor="x", data=data,
    )  # fmt: skip
    ctx = Context(START_US, SHARD, derived_id(PAYMENT, "e"), "acme", "x", correlation, PAYMENT)
    decision = decider.decide(event, state, ctx)
    assert isinstance(decision, Accepted)
    for stream, version, made in decision.events:
        meta = EventMeta(stream, version, START_US, "acme", "x", correlation)
        state = decider.evolve(state, made, meta)
    return decider, state


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("payments.payment-initiated.v1", INITIATED),
        ("payments.refund-requested.v1", REFUND_REQUESTED),
    ],
)
def test_a_timer_belongs_to_the_command_that_began_its_saga(kind: str, data: dict[str, Any]) -> None:
    decider, state = begun(kind, data, BEGAN)
    restored = decider.load(decider.dump(state))
    for each in (state, restored):
        due_us = decider.next_due(each)
        assert due_us is not None
        (due,) = decider.due(each, due_us, 10)
        unit = due_unit(SHARD, due, due_us, decider.service)
        assert (unit.envelope.correlation_id, unit.envelope.saga_id) == (BEGAN, PAYMENT)


def test_a_saga_of_0_1_0_goes_on_under_its_own_id() -> None:
    decider, state = begun("payments.payment-initiated.v1", INITIATED, "")
    assert b"correlation" not in decider.dump(state), "what was stored before has the same digest"
    due_us = decider.next_due(state)
    assert due_us is not None
    (due,) = decider.due(state, due_us, 10)
    assert due_unit(SHARD, due, due_us, decider.service).envelope.correlation_id == PAYMENT
