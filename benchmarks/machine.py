"""On what a figure was measured: processor, memory, disk, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg

from cli.stack.versions import server_version
from nexafi.settings import Settings

_PACKAGES: Final = (
    "aiokafka",
    "eventsourcing",
    "fastapi",
    "faststream",
    "psycopg",
    "pydantic",
    "uvicorn",
    "uvloop",
)
_ROOT: Final = Path(__file__).resolve().parent.parent


#: Load average (of one minute) per core above which other work is likely to have slowed a run down.
BUSY: Final = 0.3


def busy(found: dict[str, Any]) -> str | None:
    """A warning when the machine had other work as the run began."""
    load = found["load_before"][0]
    if load <= BUSY * (found["cores"] or 1):
        return None
    return f"The machine was busy before the run began (load {load}): the figures are lower than it allows."


def describe(settings: Settings, folder: Path, load: tuple[float, float, float]) -> dict[str, Any]:
    """Everything that a reader needs to judge a figure.

    ``folder`` is where the servers keep their data, ``load`` the load averages before anything was started.
    """
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "filesystem": _filesystem(folder),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": [round(value, 2) for value in load],
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "servers": _servers(settings),
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # another system: what Python knows
    return platform.processor() or platform.machine()


def _filesystem(folder: Path) -> str:
    """Type of the file system: on one in memory fsync costs nothing, and no figure would mean anything."""
    best = max(
        (p for p in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(p.mountpoint)),
        key=lambda p: len(p.mountpoint),
        default=None,
    )
    return best.fstype if best is not None else "unknown"


def _servers(settings: Settings) -> dict[str, str]:
    found = {name: server_version(name, settings) for name in ("postgres", "kafka", "elasticsearch")}
    with psycopg.connect(settings.database) as connection:
        row = connection.execute(
            "SELECT current_setting('fsync'), current_setting('synchronous_commit')"
        ).fetchone()
    assert row is not None
    return found | {"fsync": row[0], "synchronous_commit": row[1]}


def _commit() -> str:
    """The commit, and whether the tree differs from it; a checkout without git has none."""
    try:
        head = subprocess.run(
            ["git", "-C", str(_ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(_ROOT), "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}{' with changes' if changed else ''}"
