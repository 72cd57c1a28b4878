"""One platform for these tests, whose roles may be killed; a test leaves all of them alive and without trouble."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from nexafi.settings import Settings
from tests.kit.mortal import Mortal, mortal_platform
from tests.kit.patient_book import Book


@pytest.fixture(scope="module")
def mortal(stack: Settings) -> Iterator[Mortal]:
    with mortal_platform(stack) as made:
        yield made


@pytest.fixture
async def book(mortal: Mortal) -> AsyncIterator[Book]:
    """A tenant with a ledger of its own."""
    async with Book.opened(mortal) as made:
        yield made
    mortal.trouble.unlink(missing_ok=True)
