"""What a read does with a consistency token: wait while the view may still reach it, refuse what nobody ever reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from events.migrations import migrate
from projections.queries import reading
from schemas.common import tokens
from services.ledger.api import routes
from tests.integration.projections.conftest import Make
from tests.kit.asking import asking
from tests.kit.views import Views

HEAD = 7


@pytest.fixture
async def ledger(
    make_views: Make, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Views, httpx.AsyncClient]]:
    """A ledger whose shard 0 stands at :data:`HEAD`, and a view of it that nobody moves; reads wait a moment only."""
    views = await make_views("ledger")
    service = views.service("ledger")
    await asyncio.to_thread(migrate, views.settings, (service,))
    views.execute(f'UPDATE "{service}".shard_head SET next_position = {HEAD + 1} WHERE shard = 0')
    async with views.projector():  # its marks are there, at 0
        pass
    monkeypatch.setattr(reading, "WAIT_S", 0.2)
    async with asking(views.settings, routes) as client:
        yield views, client


async def read(client: httpx.AsyncClient, positions: dict[str, int]) -> httpx.Response:
    return await client.get("/internal/v1/ledgers", headers={tokens.HEADER: tokens.encode(positions)})


async def test_a_view_that_stands_still_is_waited_for_and_said_to_be_behind(
    ledger: tuple[Views, httpx.AsyncClient],
) -> None:
    views, client = ledger
    answer = await read(client, {f"{views.service('ledger')}/0": HEAD})
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("/not-yet-consistent")
    assert answer.headers["retry-after"] == "1"


async def test_what_no_shard_has_reached_is_refused_and_not_waited_for(
    ledger: tuple[Views, httpx.AsyncClient],
) -> None:
    views, client = ledger
    source = f"{views.service('ledger')}/0"
    for position in (HEAD + 1, 2**62):
        answer = await read(client, {source: position})
        assert answer.status_code == 400
        problem = answer.json()
        assert problem["type"].endswith("/invalid-consistency-token")
        assert problem["pointer"] == tokens.HEADER
        assert f"position {position} of {source}, whose history ends at {HEAD}" in problem["detail"]


async def test_a_source_that_does_not_feed_the_view_holds_nobody_up(
    ledger: tuple[Views, httpx.AsyncClient],
) -> None:
    _, client = ledger
    assert (await read(client, {"payments/0": 2**62, "nothing/9": 5})).status_code == 200
