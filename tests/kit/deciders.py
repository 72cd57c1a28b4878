"""Every domain that the engine runs, found the way a newcomer would: ``services/<name>/domain.py`` and the sagas."""

from __future__ import annotations

import importlib
import inspect
from functools import lru_cache
from typing import Any

from events.decider import Decider
from tests.kit.source import ROOT, python_files, relative


@lru_cache(maxsize=1)
def decider_classes() -> dict[str, type[Decider[Any]]]:
    """Service -> its decider's class."""
    found: dict[str, type[Decider[Any]]] = {}
    for path in python_files("services", "sagas"):
        if path.name in {"domain.py", "decider.py"}:
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            for each in vars(module).values():
                if inspect.isclass(each) and issubclass(each, Decider) and each.__module__ == module.__name__:
                    assert each.service not in found, f"{relative(path)}: a second decider of {each.service}"
                    found[each.service] = each
    return dict(sorted(found.items()))
