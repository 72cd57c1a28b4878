"""The how-to page's view works as it stands there."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from projections import registry
from projections.rebuild import rebuild
from tests.integration.projections.conftest import Make
from tests.kit.history import LedgerHistory

_PAGE = Path(__file__).parents[3] / "docs/how-to/add-a-view.md"


async def test_view_of_the_page(make_views: Make) -> None:
    """Its code is taken from the page, named in the registry, migrated, filled from the first event, and rebuilt."""
    [code] = re.findall(r"```python\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    module: dict[str, Any] = {}
    exec(compile(code, str(_PAGE), "exec"), module)
    before = registry.VIEWS["ledger"]
    registry.VIEWS["usage"] = (module["VIEW"],)
    views = await make_views()
    assert registry.VIEWS["ledger"] != before
    history = LedgerHistory.begin(views.service("ledger"), 0, 5)
    for _ in range(3):
        history.tick(86_400_000_000)
        history.random_transfers(50, random.Random(1))
    await views.publish(history)
    async with views.running("usage"):
        await views.reached("usage", history)
        assert views.query("SELECT count(DISTINCT day), sum(entries) FROM views.usage") == [(3, 300)]
        # Changing it: code 2 declares that its counts are others; the rest is compared.
        newer = replace(views.view("usage"), code=2, changed=frozenset({"usage.entries"}))
        registry.VIEWS["usage"] = (*registry.VIEWS["usage"], newer)
        assert (await rebuild(views.settings, "usage")).equal
