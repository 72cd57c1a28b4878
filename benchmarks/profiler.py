"""Where processes spend their time while a row is measured: py-spy from outside, nothing built in.

Samples count only threads that hold the interpreter's lock: waiting, and C code that gave the lock away (libpq,
sockets, hashing of large values), are not in them. What was sampled is kept in collapsed form, which flame graph tools read.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

RATE_HZ: Final = 200
_STOP_TIMEOUT_S: Final = 60.0


class NoProfilerError(RuntimeError):
    """py-spy is not in the environment."""


@dataclass(frozen=True, slots=True)
class Share:
    """One function: how often it was on top, and how often it was anywhere on the stack, of all samples."""

    name: str
    own: float
    total: float


@dataclass
class Profiler:
    """Samples the named processes from :meth:`start` to :meth:`stop`, into ``folder``."""

    folder: Path
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, pids: Mapping[str, int]) -> None:
        """Attach to each process; those that are not Python's show in :meth:`stop` with no samples."""
        program = Path(sys.executable).with_name("py-spy")
        found = str(program) if program.exists() else shutil.which("py-spy")
        if found is None:
            raise NoProfilerError("py-spy is not installed: ./dev sync")
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, pid in pids.items():
            file = self.folder / f"{name}.collapsed"
            file.unlink(missing_ok=True)
            command = [found, "record", "--pid", str(pid), "--gil", "--threads", "--rate", str(RATE_HZ)]
            command += ["--format", "raw", "--duration", "unlimited", "--output", str(file)]
            with file.with_suffix(".log").open("wb") as log:
                self._running[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> dict[str, list[Share]]:
        """Detach; functions of each process, those with most samples of their own first."""
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for child in self._running.values():
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
        found: dict[str, list[Share]] = {}
        for name, child in self._running.items():
            child.wait(max(1.0, deadline - time.monotonic()))
            file = self.folder / f"{name}.collapsed"
            found[name] = shares(file.read_text().splitlines()) if file.exists() else []
        self._running.clear()
        return found


def shares(lines: Iterable[str]) -> list[Share]:
    """From collapsed stacks (``frame;frame;frame count``). A function is counted once a stack, however deep it recurs."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [_function(f) for f in stack.split(";") if not f.startswith(("process ", "thread ("))]
        if not frames:
            continue
        samples += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    return [
        Share(name, own[name] / samples, total[name] / samples)
        for name in sorted(total, key=lambda n: (-own[n], -total[n], n))
    ]


def _function(frame: str) -> str:
    """``name (file.py:12)`` -> ``name (file.py)``."""
    head, colon, line = frame.rpartition(":")
    return f"{head})" if colon and line.rstrip(")").isdigit() else frame


def table(name: str, found: list[Share], top: int = 35) -> str:
    """Two lists for people: most time itself, most time with all that it calls."""
    if not found:
        return f"== {name}: no samples (not a Python process, or it did nothing)"
    lines = [f"== {name}", "  by own time"]
    lines += [f"  {s.own:7.1%}  {s.name}" for s in found[:top] if s.own]
    lines.append("  with what it calls")
    by_total = sorted(found, key=lambda s: -s.total)
    lines += [f"  {s.total:7.1%}  {s.name}" for s in by_total[: top * 2]]
    return "\n".join(lines)
