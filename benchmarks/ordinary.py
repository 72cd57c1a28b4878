"""Ordinary names of many cultures and of companies, drawn from a committed list with a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

_FILE: Final = Path(__file__).parent / "data" / "ordinary_names.json"
COMPANIES: Final = "companies"
#: Their family names are written with a hyphen.
_HYPHENATED: Final = {"arabic"}


@lru_cache(maxsize=1)
def _source() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return found


def groups() -> list[str]:
    """Cultures, and ``companies``."""
    return [*_source()["cultures"], COMPANIES]


def names(group: str, count: int, seed: int = 1) -> Iterator[str]:
    """``count`` full names of one group; the same for the same seed."""
    draw = random.Random(f"{group}/{seed}")
    for _ in range(count):
        yield _company(draw) if group == COMPANIES else _person(group, draw)


def _person(group: str, draw: random.Random) -> str:
    culture = _source()["cultures"][group]
    parts = []
    for part in culture["order"].split("-"):
        word = draw.choice(culture["family" if part == "family" else "given"])
        parts.append(word.replace("-", " ") if part == "family" and group not in _HYPHENATED else word)
    return " ".join(parts)


def _company(draw: random.Random) -> str:
    source = _source()["organisations"]
    return " ".join(draw.choice(source[part]) for part in ("stems", "lines", "forms"))
