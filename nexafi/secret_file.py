"""The file in which `./dev up` keeps the secrets of its stack: ``NAME=value`` a line, mode 600.

The standard library alone: the command line reads it before it loads anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: In the data folder of a stack.
NAME: Final = "secrets.env"


def read(folder: Path) -> dict[str, str]:
    """The secrets of the stack whose data is in ``folder``; empty when it has none yet."""
    file = folder / NAME
    if not file.exists():
        return {}
    lines = file.read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value for name, value in pairs}
