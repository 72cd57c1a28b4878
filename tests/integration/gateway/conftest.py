"""The world of two tenants, made once for all tests of the edge."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.integration.gateway.world import World, build, run_apart
from tests.kit.platform import Platform


@pytest.fixture(scope="session")
def world(platform: Platform) -> World:
    """Two tenants that own one thing of every kind."""
    return run_apart(build(platform))


@pytest.fixture
async def http(world: World) -> AsyncIterator[aiohttp.ClientSession]:
    """Connections for one test."""
    async with world.session() as session:
        yield session
