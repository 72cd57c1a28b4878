"""The ledger's own code with one line broken, loaded beside the sound one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from events.decider import Decider

PACKAGE = "services.ledger"


class _Edited(SourceFileLoader):
    """Compiles the file with ``before`` replaced by ``after``; the code on disk is left alone."""

    def __init__(self, name: str, path: str, before: str, after: str) -> None:
        super().__init__(name, path)
        text = Path(path).read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{before!r} occurs {text.count(before)} times in {path}"
        self._text = text.replace(before, after)

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec")


class _Finder(MetaPathFinder):
    def __init__(self, loader: _Edited) -> None:
        self._loader = loader

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_loader(fullname, self._loader) if fullname == self._loader.name else None


@contextmanager
def mutant(module: str, before: str, after: str) -> Iterator[Decider[Any]]:
    """A ``LedgerDecider`` in whose ``module`` the text ``before`` reads ``after``."""
    name = f"{PACKAGE}.{module}"
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    finder = _Finder(_Edited(name, spec.origin, before, after))
    sound = {n: m for n, m in sys.modules.items() if n == PACKAGE or n.startswith(f"{PACKAGE}.")}
    parent = sys.modules["services"]
    for each in sound:
        del sys.modules[each]
    sys.meta_path.insert(0, finder)
    try:
        yield importlib.import_module(f"{PACKAGE}.domain").LedgerDecider()
    finally:
        sys.meta_path.remove(finder)
        for each in [n for n in sys.modules if n == PACKAGE or n.startswith(f"{PACKAGE}.")]:
            del sys.modules[each]
        sys.modules.update(sound)
        parent.ledger = sound[PACKAGE]  # type: ignore[attr-defined]
