"""The independent verifier that is given to auditors, as a module."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.kit.source import ROOT

SCRIPT = ROOT / "docs/reference/verify_history.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_history", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_MODULE = _load()


def finding(path: Path, jwks: dict[str, Any] | None = None, heads: dict[Any, list[str]] | None = None) -> str:
    """What the script finds wrong with an export; ``""`` when it is sound."""
    keys = {key["kid"]: key for key in jwks["keys"]} if jwks is not None else {}
    try:
        _MODULE.verify(path, keys, heads or {})
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
