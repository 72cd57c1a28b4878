"""One platform for the tests of a first payment, started by `up` like anybody's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.newcomer import Newcomer, newcomer


@pytest.fixture(scope="session")
def first() -> Iterator[Newcomer]:
    """A newcomer whose platform has just come up."""
    with newcomer() as made:
        yield made
