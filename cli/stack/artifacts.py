"""Java artifacts: fetched through ``jgo``, pinned by SHA-256, kept in the user's cache.

``artifacts.json`` names every file that is ever run, with its digest. Nothing is resolved at run time, so a
changed repository can neither add a jar nor replace one: another digest is refused and the file is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_PINS = Path(__file__).with_name("artifacts.json")
_PARALLEL_DOWNLOADS = 8
_TRIES = 3
_TIMEOUT_S = 60

#: Called with the number of bytes that arrived.
Progress = Callable[[int], None]


class ArtifactRefusedError(RuntimeError):
    """A file is not the one that was pinned."""


class FetchError(RuntimeError):
    """A file could not be had."""


@dataclass(frozen=True)
class Artifact:
    """One pinned file. ``coordinate`` is ``group:artifact:packaging:version``; ``size`` is in bytes."""

    coordinate: str
    sha256: str
    size: int
    part: str

    @property
    def filename(self) -> str:
        """Name of the file, as Maven names it."""
        _, artifact, packaging, version = self.coordinate.split(":")
        return f"{artifact}-{version}.{packaging}"

    def path(self, cache: Path) -> Path:
        """Where the file is kept."""
        return cache / "artifacts" / self.part / self.filename

    def present(self, cache: Path) -> bool:
        """Whether a file of the right size is there (its digest was checked before it got its name)."""
        path = self.path(cache)
        return path.is_file() and path.stat().st_size == self.size

    def verify(self, path: Path) -> None:
        """Raise :class:`ArtifactRefusedError` when ``path`` is not the pinned file."""
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise ArtifactRefusedError(
                f"{self.coordinate} has SHA-256 {found}, but {self.sha256} is pinned. The file was not used. "
                "Someone or something changed it on its way: try again from another network, and do not go on."
            )


@lru_cache(maxsize=1)
def pinned() -> tuple[Artifact, ...]:
    """All artifacts of the local stack."""
    return tuple(Artifact(**entry) for entry in json.loads(_PINS.read_text())["artifacts"])


def of_part(part: str) -> tuple[Artifact, ...]:
    """The artifacts of ``kafka`` or ``elasticsearch``."""
    return tuple(artifact for artifact in pinned() if artifact.part == part)


def missing(cache: Path, parts: set[str]) -> list[Artifact]:
    """What has to be fetched for ``parts``, largest first."""
    wanted = [a for a in pinned() if a.part in parts and not a.present(cache)]
    return sorted(wanted, key=lambda artifact: -artifact.size)


@contextmanager
def cache_lock(cache: Path) -> Iterator[None]:
    """Let one process at a time change the cache; the kernel frees the lock of a process that dies."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch(cache: Path, artifacts: list[Artifact], progress: Progress) -> None:
    """Download, verify and keep ``artifacts``, several at once. Raises for the first that fails."""
    with ThreadPoolExecutor(_PARALLEL_DOWNLOADS, thread_name_prefix="fetch") as pool:
        for done in as_completed(
            [pool.submit(_fetch_one, cache, artifact, progress) for artifact in artifacts]
        ):
            try:
                done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _fetch_one(cache: Path, artifact: Artifact, progress: Progress) -> None:
    last: Exception | None = None
    for _ in range(_TRIES):
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as staging:
            try:
                file = _download(Path(staging), artifact, progress)
            except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, jgo's RuntimeErrors
                last = error
                continue
            artifact.verify(file)
            target = artifact.path(cache)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.chmod(0o644)
            with file.open("rb") as synced:
                os.fsync(synced.fileno())
            file.replace(target)
            return
    raise FetchError(
        f"{artifact.coordinate} could not be fetched in {_TRIES} tries: {last}. Check the network, the proxy "
        "variables and the certificate bundle (REQUESTS_CA_BUNDLE), or set NEXAFI_MAVEN_REPOSITORY to a mirror."
    ) from last


def _download(staging: Path, artifact: Artifact, progress: Progress) -> Path:
    from jgo.maven import MavenContext, PythonResolver

    @contextmanager
    def report(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield progress

    mirror = os.environ.get("NEXAFI_MAVEN_REPOSITORY")
    context = MavenContext(
        resolver=PythonResolver(progress_callback=report),
        repo_cache=staging,
        remote_repos={"mirror": mirror} if mirror else None,
        timeout=_TIMEOUT_S,
    )
    group, name, packaging, version = artifact.coordinate.split(":")
    return Path(context.project(group, name).at_version(version).artifact(packaging=packaging).resolve())


def unpacked(cache: Path, archive: Artifact) -> Path:
    """The folder that ``archive`` unpacks to; named after its digest, so it can not be another's."""
    return cache / f"{Path(archive.filename).stem}-{archive.sha256[:8]}"


def unpack(cache: Path, archive: Artifact) -> Path:
    """Unpack ``archive`` once and return its top folder. The caller holds :func:`cache_lock`."""
    target = unpacked(cache, archive)
    if not target.exists():
        file = archive.path(cache)
        archive.verify(file)
        staging = Path(tempfile.mkdtemp(prefix=".unpack-", dir=cache))
        try:
            with zipfile.ZipFile(file) as source:
                source.extractall(staging)
            (top,) = staging.iterdir()
            top.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return target
