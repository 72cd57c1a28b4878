"""The bundled list, read and indexed once for all tests of the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.compliance.lists import ofac
from services.compliance.lists.entries import SanctionsList
from services.compliance.matching.screener import ListScreener

SAMPLE = Path(__file__).parents[2] / "data" / "ofac"


@pytest.fixture(scope="session")
def bundled() -> SanctionsList:
    return ofac.load()


@pytest.fixture(scope="session")
def screener(bundled: SanctionsList) -> ListScreener:
    return ListScreener(bundled)
