"""Views of a test's own on the shared servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from nexafi.settings import Settings
from tests.kit.views import Views, original_registry, rename

Make = Callable[..., Awaitable[Views]]


@pytest.fixture
async def make_views(stack: Settings, database_url: str) -> AsyncIterator[Make]:
    """Makes :class:`Views`; ends its processes and restores the registry afterwards."""
    made: list[Views] = []
    with original_registry():

        async def make(*services: str, **options: Any) -> Views:
            views = await Views.create(stack, database_url, services or ("ledger",), **options)
            rename(views.services)
            made.append(views)
            return views

        yield make
        for views in made:
            views.close()
