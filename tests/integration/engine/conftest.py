"""An engine per test: its own database, topics and processes on the shared servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from nexafi.settings import Settings
from tests.kit.engine import Engine


@pytest.fixture
async def engine(stack: Settings, database_url: str) -> AsyncIterator[Engine]:
    engine = await Engine.create(stack, database_url, snapshot_every=200)
    yield engine
    await engine.close()
