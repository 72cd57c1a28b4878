"""Draining ends every wait for an answer: what is not there by then is a 202, not a broken connection."""

from __future__ import annotations

import asyncio

from gateway.flights import Flights
from nexafi.settings import Settings
from schemas.common.outcomes import CommandResult


class Silent:
    """Replies that never come."""

    address = "gw:0"
    listening = True

    def expect(self, command_id: str) -> asyncio.Future[CommandResult]:
        return asyncio.get_running_loop().create_future()

    def forget(self, command_id: str) -> None:
        return


async def test_who_waits_when_draining_begins_or_comes_later_waits_no_longer_than_it_says() -> None:
    flights = Flights(Silent(), Settings())
    many = [flights.depart(f"c{n}", "d", "ledger/0", "acme") for n in range(5)]
    loop = asyncio.get_running_loop()
    waiting = [asyncio.create_task(flights.wait(flight, 600)) for flight in many]
    bulk = asyncio.create_task(flights.wait_all(many, loop.time() + 600))
    await asyncio.sleep(0)
    flights.drain(0.05)
    late = asyncio.create_task(flights.wait(many[0], 600))
    async with asyncio.timeout(30):
        assert await asyncio.gather(*waiting, late) == [None] * 6
        await bulk
        assert await flights.wait(many[1], 600) is None
        await flights.wait_all(many, loop.time() + 600)
