"""Planting a bug by an edit of the source, as somebody would write it; the edit fails loudly when the source has moved on."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

Plant = Callable[[pytest.MonkeyPatch], None]


def rewritten(target: Any, old: str, new: str) -> Any:
    """``target`` with the first ``old`` in its source replaced by ``new``."""
    function = inspect.unwrap(target)
    source = inspect.getsource(function)
    assert old in source, f"{function.__qualname__} no longer says {old!r}"
    code = "from __future__ import annotations\n" + textwrap.dedent(source.replace(old, new, 1))
    made: dict[str, Any] = {}  # the module's own globals stay its globals, and are not changed
    exec(compile(code, f"<bug in {function.__name__}>", "exec"), function.__globals__, made)
    return made[function.__name__]


def edit(owner: Any, name: str, old: str, new: str) -> Plant:
    """A bug in ``owner.name`` (a class's method or a module's function), wherever that was imported to."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        sound = getattr(owner, name)
        broken = rewritten(sound, old, new)
        monkeypatch.setattr(owner, name, broken)
        for module in list(sys.modules.values()):  # whoever has imported the function by its name
            if vars(module).get(name) is sound:
                monkeypatch.setattr(module, name, broken)

    return plant
