"""One log file a process, bounded: at most two files of 16 MiB each."""

from __future__ import annotations

import shutil
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024


def bound(folder: Path, max_bytes: int = MAX_BYTES) -> list[Path]:
    """Copy each log that has grown too long to ``.log.1`` and empty it; returns those.

    Writers append (``O_APPEND``) and so go on at the new end; nothing has to be told to open its file again.
    What is written between the copy and the cut is lost, which a log may.
    """
    cut = []
    for file in folder.glob("*.log"):
        if file.stat().st_size > max_bytes:
            shutil.copyfile(file, file.with_suffix(".log.1"))
            with file.open("r+b") as grown:
                grown.truncate(0)
            cut.append(file)
    return cut
