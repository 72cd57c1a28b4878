"""The hub and the trail of an operation, without Kafka: what is handed on, what ends a stream, what belongs together."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import ConsumerRecord

from events.subscription import Batch, RawEvent
from gateway.feed import Event
from gateway.hub import MAX_WAITING, MAX_WAITING_BYTES, Arrival, Hub, Listener, ending
from gateway.streams import frame
from gateway.trail import Trail
from nexafi.problems import ProblemError
from nexafi.settings import Settings


def record(position: int, tenant: str = "acme", history: str = "h1", value: bytes = b"{}") -> RawEvent:
    headers = [
        ("ce_position", b"%d" % position),
        ("ce_history", history.encode()),
        ("ce_tenant", tenant.encode()),
        ("ce_type", b"ledger.transaction-posted.v1"),
    ]
    fields: dict[str, Any] = dict.fromkeys(ConsumerRecord.__dataclass_fields__)
    return RawEvent(ConsumerRecord(**(fields | {"headers": headers, "value": value, "offset": position})))


def batch(*events: RawEvent) -> Batch:
    return Batch("ledger", 3, list(events), 0)


def attached(hub: Hub, tenant: str = "acme") -> Listener:
    listener = Listener(tenant, lambda _: True)
    hub.enter(listener)
    listener.attached = True
    return listener


def positions(listener: Listener) -> list[int]:
    found = []
    while (arrival := listener.take()) is not None:
        found.append(arrival.position)
    return found


async def test_a_tenant_hears_its_own_and_a_repetition_is_dropped() -> None:
    hub = Hub(Settings())
    one, two = attached(hub), attached(hub, "other")
    hub._take(batch(record(7), record(8, "other"), record(9)))
    hub._take(batch(record(8, "other"), record(9), record(10)))  # the relay sends again after a crash
    assert positions(one) == [7, 9, 10]
    assert positions(two) == [8]
    assert hub.positions == {"ledger/3": 10}


async def test_who_has_not_attached_is_not_handed_anything() -> None:
    hub = Hub(Settings())
    listener = attached(hub)
    listener.attached = False
    hub._take(batch(record(1)))
    assert positions(listener) == []


async def test_a_hole_ends_every_stream() -> None:
    hub = Hub(Settings())
    listeners = [attached(hub), attached(hub, "other")]
    hub._take(batch(record(1)))
    hub._take(batch(record(3)))
    assert [each.ended for each in listeners] == ["gap", "gap"]


async def test_another_history_ends_every_stream() -> None:
    hub = Hub(Settings())
    listener = attached(hub)
    hub._take(batch(record(9)))
    hub._take(batch(record(4, history="h2")))
    assert listener.ended == "history-changed"
    assert hub.positions == {"ledger/3": 4}


async def test_an_unreadable_record_is_passed_over() -> None:
    hub = Hub(Settings())
    listener = attached(hub)
    broken = record(2)
    broken.record.headers[0] = ("ce_position", b"two")
    hub._take(batch(record(1), broken))
    assert positions(listener) == [1]
    assert listener.ended is None


@pytest.mark.parametrize(("size", "fits"), [(2, MAX_WAITING), (1 << 20, MAX_WAITING_BYTES >> 20)])
async def test_a_queue_is_bounded_in_events_and_in_bytes(size: int, fits: int) -> None:
    listener = Listener("acme", lambda _: True)
    value = b"x" * size
    for position in range(fits):
        listener.offer(Arrival("ledger/0", position, record(position, value=value)))
    assert listener.ended is None
    listener.offer(Arrival("ledger/0", fits, record(fits, value=value)))
    assert listener.ended == "too-slow"
    assert listener.take() is None


async def test_draining_ends_streams_and_takes_no_more() -> None:
    hub = Hub(Settings())
    listener = attached(hub)
    hub.drain()
    assert listener.ended == "draining"
    with pytest.raises(ProblemError) as refused:
        hub.enter(Listener("acme", lambda _: True))
    assert refused.value.slug == "draining"


def event(kind: str, *, causation: str = "", subject: str = "", saga: str = "", body: bytes = b"{}") -> Event:
    return Event("payments/0", 1, "", kind, subject, "bulk", causation, saga, body)


def test_a_trail_follows_what_the_command_began_and_nothing_else() -> None:
    trail = Trail("c1")
    trail.follow({"payment_id": "p1"})
    assert trail.has_ended()
    assert not trail.note(event("payments.payment-initiated.v1", causation="c1", subject="p1"))
    assert not trail.has_ended()
    assert trail.concerns(event("ledger.hold-placed.v1", saga="p1"))
    assert not trail.concerns(event("ledger.hold-placed.v1", saga="p2"))
    assert trail.note(event("payments.payment-failed.v1", subject="p1"))
    assert trail.has_ended()


def test_one_refund_of_several_is_told_from_the_others() -> None:
    trail = Trail("c1")
    trail.follow({"payment_id": "p1", "refund_id": "r1"})
    trail.note(event("payments.refund-requested.v1", causation="c1", subject="p1"))
    other = event("payments.refund-settled.v1", subject="p1", body=b'{"refund_id":"r2"}')
    mine = event("payments.refund-settled.v1", subject="p1", body=b'{"refund_id":"r1"}')
    assert [trail.concerns(other), trail.concerns(mine)] == [False, True]
    assert [trail.note(other), trail.note(mine)] == [False, True]


def test_frames_are_what_a_browser_reads() -> None:
    assert frame("t", b'{"a":1}') == b'id: t\ndata: {"a":1}\n\n'
    assert frame("", b"{}", "end") == b"event: end\ndata: {}\n\n"
    assert ending("gap")["detail"].endswith("Go on from the last id.")
