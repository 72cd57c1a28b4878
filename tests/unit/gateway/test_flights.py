"""Draining ends every wait for an answer: what is not there by then is a 202, not a broken connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError

from events.replies import Sink
from gateway.flights import Flights
from nexafi.problems import ProblemError
from nexafi.settings import Settings


class Silent:
    """Replies that never come."""

    address = "gw:0"
    listening = True

    def register(self, command_id: str, sink: Sink) -> None:
        return

    def forget(self, command_id: str) -> None:
        return


async def test_who_waits_when_draining_begins_or_comes_later_waits_no_longer_than_it_says() -> None:
    flights = Flights(Silent(), Settings())
    many = [flights.depart(f"c{n}", "d", "ledger/0", "acme") for n in range(5)]
    waiting = [asyncio.create_task(flights.wait(flight, 600)) for flight in many]
    record = flights.depart("record", "d", "ledger/0", "acme", 500)
    bulk = asyncio.create_task(flights.wait(record, 600))
    await asyncio.sleep(0)
    flights.drain(0.05)
    late = asyncio.create_task(flights.wait(many[0], 600))
    async with asyncio.timeout(30):
        assert await asyncio.gather(*waiting, late) == [None] * 6
        assert await bulk is None
        assert await flights.wait(many[1], 600) is None
        assert await flights.wait(record, 600) is None


async def test_a_bulk_record_has_landed_when_its_last_item_is_answered() -> None:
    """Given a record of three items; when answers come in two parts, one twice; then it lands with the last."""
    flights = Flights(Silent(), Settings())
    record = flights.depart("record", "d", "ledger/0", "acme", 3)
    waiting = asyncio.create_task(flights.wait(record, 600))

    def part(*indexes: int) -> dict[str, Any]:
        items = [
            {"index": i, "outcome": "accepted", "position": i, "result": {}, "conflict": False}
            for i in indexes
        ]
        return {"command_id": "record", "service": "ledger", "shard": 0, "items": items}

    assert not record.answered(part(0, 2))
    assert not record.answered(part(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert record.answered(part(1))
    async with asyncio.timeout(30):
        await waiting
    assert sorted(record.items) == [0, 1, 2]
    assert len(flights) == 0


async def test_what_kafka_refuses_fails_for_everyone_who_waits_and_frees_its_places() -> None:
    """Given two who wait for one command; when Kafka never has it; then both hear so, and an answer later is ignored."""
    flights = Flights(Silent(), Settings(max_commands_per_shard=1))
    flight = flights.depart("c", "d", "ledger/0", "acme")
    delivery: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    delivery.add_done_callback(flight.sent)
    waiting = [asyncio.create_task(flights.wait(flight, 600)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ProblemError):
        flights.room("ledger/0", "acme")
    delivery.set_exception(KafkaTimeoutError())
    async with asyncio.timeout(30):
        failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert [f.slug for f in failures if isinstance(f, ProblemError)] == ["log-unavailable"] * 2
    flights.room("ledger/0", "acme")


def answer(command: str, **changed: Any) -> dict[str, Any]:
    """A reply to one command."""
    body = {"command_id": command, "outcome": "accepted", "service": "ledger", "shard": 0, "position": 1}
    return body | {"result": {}, "conflict": False} | changed


def decided(flights: Flights, command: str, digest: str, **changed: Any) -> None:
    flights.depart(command, digest, "ledger/0", "acme").answered(answer(command, **changed))


async def test_a_key_that_was_decided_stands_for_its_request_and_for_no_other() -> None:
    flights = Flights(Silent(), Settings())
    decided(flights, "c", "first")
    assert flights.find("c", "first") is None, "sent again, the writer gives the stored answer"
    with pytest.raises(ProblemError) as refused:
        flights.find("c", "second")
    assert refused.value.slug == "idempotency-key-reused"


@pytest.mark.parametrize("changed", [{"conflict": True, "outcome": "rejected"}, {"outcome": "failed"}])
async def test_a_request_that_came_second_or_failed_stands_for_nothing(changed: dict[str, Any]) -> None:
    flights = Flights(Silent(), Settings())
    decided(flights, "c", "second", **changed)
    assert flights.find("c", "first") is None


async def test_a_bounded_number_of_requests_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.flights.MAX_REMEMBERED", 3)
    flights = Flights(Silent(), Settings())
    for number in range(5):
        decided(flights, f"c{number}", "first")
    assert flights.find("c1", "second") is None, "the stored answer tells them apart"
    with pytest.raises(ProblemError):
        flights.find("c2", "second")
