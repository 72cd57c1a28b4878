"""How much of each promise a test shows: a small figure in every run of the suite, the promise's own in a soak.

A test takes its figure from here and runs once for each size::

    @figures("R2")
    async def test_one_effect_for_each_key(engine: Engine, figure: Figure, printed: Printed) -> None:
        for number in range(figure["keys"]): ...
        printed("R2", keys=..., sends=..., kills=...)

`pytest` runs ``[suite]``; `./dev test soak` runs ``[soak]`` and keeps what it printed in ``docs/soak/<promise>.json``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import orjson
import pytest

from tests.kit.source import ROOT

Figure: TypeAlias = Mapping[str, int]

#: Promise -> what is counted -> (in the suite, as promised). docs/reliability.md has the promises in words.
FIGURES: Final[dict[str, dict[str, tuple[int, int]]]] = {
    "R1": {"transfers": (1_500, 20_000), "clients": (32, 32), "reads": (60, 2_000), "kills": (2, 12)},
    "R2": {"keys": (600, 10_000), "kills": (2, 12)},
    "R2 over HTTP": {"keys": (1_000, 10_000)},
    "R3": {"pairs": (1_000, 1_000)},
    "R4": {"acknowledgements": (1_500, 10_000), "kills": (3, 20)},
    "R6": {"pauses": (2, 15)},
    "R7": {"interleavings": (25, 1_000), "writers": (8, 8)},
    "R8": {"kills": (4, 50)},
    "R12": {"sagas": (120, 2_000), "kills": (3, 20)},
    "R13": {"timeouts": (100, 1_000)},
    "R14": {"bad": (100, 1_000), "good": (1_000, 10_000)},
    "R24": {"disconnects": (1_000, 10_000)},
    "R25": {"seconds": (8, 60)},
    "balances at two times": {"queries": (2_000, 100_000)},
    "S17": {"tamperings": (110, 1_000)},
    "S20": {"requests": (1_500, 20_000)},
}
FOLDER: Final = ROOT / "docs" / "soak"
_TIMEOUT_S: Final = {"suite": 900, "soak": 3_600}


def figures(promise: str) -> pytest.MarkDecorator:
    """Run the test with the promise's figure for the suite and, under the marker ``soak``, with the promised one."""
    sizes = []
    for index, size in enumerate(("suite", "soak")):
        figure = {name: pair[index] for name, pair in FIGURES[promise].items()}
        marks = [pytest.mark.timeout(_TIMEOUT_S[size])]
        if size == "soak":
            marks.append(pytest.mark.soak)
        sizes.append(pytest.param(figure, id=size, marks=marks))
    return pytest.mark.parametrize("figure", sizes)


class Printed:
    """Prints what a test counted; what a soak printed last is kept for docs/reliability.md to quote."""

    def __init__(self, test: str, *, keep: bool, folder: Path = FOLDER) -> None:
        self._test = test
        self._keep = keep
        self._folder = folder
        self._began = time.monotonic()

    def __call__(self, promise: str, **counted: int | float | str) -> None:
        """Call it last, when everything was asserted. ``promise`` is the row, e.g. ``"R2"``."""
        words = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in counted.items())
        print(f"\n{promise} {self._test.rpartition('::')[2]}: {words}")
        if not self._keep:
            return
        self._folder.mkdir(exist_ok=True)
        file = self._folder / f"{promise}.json"
        kept = orjson.loads(file.read_bytes()) if file.exists() else {}
        kept[self._test] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "cpus": os.cpu_count(),
            "seconds": round(time.monotonic() - self._began),
            "printed": counted,
        }
        options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
        file.write_bytes(orjson.dumps(kept, option=options))
