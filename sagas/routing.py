"""Which events concern a saga, and the command that brings each to it. Pure: bytes in, bytes out.

An event is looked at through two of its headers first, and its data are parsed only when the saga is named
nowhere else; what is not forwarded is never parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import orjson
from pydantic_core import from_json

from nexafi.ids import derived_id, shard_of
from sagas.payment import refund, saga
from schemas.common.envelope import CommandEnvelope, EventEnvelope, Headers, MalformedEnvelopeError
from schemas.sagas.commands import ObserveEvent

#: Event types that a saga can react to; all others of a saga's making would be observed for nothing.
OBSERVED: Final = frozenset(
    kind.encode() for kind in saga.OBSERVED | refund.OBSERVED | {"payments.payment-initiated.v1"}
)
#: Types that concern a saga although no saga caused them: the saga is the payment in their subject (stream) ...
BY_SUBJECT: Final = frozenset(
    {
        b"payments.payment-initiated.v1",
        b"payments.cancellation-requested.v1",
        b"payments.refund-requested.v1",
    }
)
#: ... or in their data.
BY_PAYMENT_ID: Final = frozenset({b"compliance.case-decided.v1"})


class Routed(NamedTuple):
    """A command for the saga's topic."""

    shard: int
    command_id: str
    headers: Headers
    value: bytes


def route(
    headers: list[tuple[str, bytes]] | tuple[tuple[str, bytes], ...],
    value: bytes,
    service: str,
    shards: int,
) -> Routed | None:
    """The command that tells a saga about an event of ``service``, or ``None`` when it concerns none.

    Raises :class:`MalformedEnvelopeError` for an event that concerns a saga and can not be read.
    """
    h: Mapping[str, bytes] = dict(headers)
    kind = h.get("ce_type", b"")
    if kind not in OBSERVED:
        return None
    saga_id = h.get("ce_sagaid", b"").decode()
    if not saga_id:
        if kind in BY_SUBJECT:
            saga_id = h.get("ce_subject", b"").decode()
        elif kind in BY_PAYMENT_ID:
            saga_id = _payment_id(value)
        else:
            return None  # e.g. a hold that a caller placed by himself
    try:
        shard = shard_of(saga_id) % shards
    except ValueError as error:
        raise MalformedEnvelopeError(f"saga: {error}") from None
    event = EventEnvelope.read(headers)
    command_id = derived_id(saga_id, event.id)
    envelope = CommandEnvelope(
        command_id,
        ObserveEvent.TYPE,
        event.tenant,
        "system:saga-router",
        correlation_id=event.correlation_id,
        saga_id=saga_id,
        traceparent=event.traceparent,
        time_us=event.time_us,
        source="nexafi/saga-router",
    )
    observed = {
        "saga_id": saga_id,
        "event_id": event.id,
        "event_type": event.type,
        "store": service,
        "shard": event.shard,
        "position": event.position,
        "time_us": event.time_us,
        "tenant": event.tenant,
        "actor": event.actor,
        "data": orjson.Fragment(value),  # as it is: its amounts may exceed 64 bits
    }
    return Routed(shard, command_id, envelope.headers(), orjson.dumps(observed))


def _payment_id(value: bytes) -> str:
    try:
        return str(from_json(value)["payment_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedEnvelopeError(f"payment_id: {error}") from None
