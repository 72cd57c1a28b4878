"""Where the local stack keeps its programs (one cache a user) and its data (one folder a checkout).

PostgreSQL and Elasticsearch refuse to run as root, so a stack that root starts gives its servers to an
unprivileged account, which can not traverse root's home: then both folders lie under ``/var``.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from nexafi import secret_file

#: The checkout this code runs from (the project is installed editable).
CHECKOUT = Path(__file__).resolve().parents[2]

#: Accounts that servers may run under when root starts the stack; the first that exists is taken.
SERVER_ACCOUNTS = ("nexafi", "nobody")

#: Proves that a data folder is one of ours.
_MARKER = ".nexafi-data"
#: What may be in a data folder that has no marker.
_OURS = {"run", "logs", "postgres", "kafka", "valkey", "elasticsearch", "secrets.env"}


@dataclass(frozen=True)
class Account:
    """The account that servers run under."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """The unprivileged account for servers, or ``None`` when the caller is an ordinary user."""
    if os.geteuid() != 0:
        return None
    for name in SERVER_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise RuntimeError(
        "PostgreSQL and Elasticsearch refuse to run as root, and none of the accounts "
        f"{', '.join(SERVER_ACCOUNTS)} exists. Create one: useradd --system nexafi"
    )


def cache_dir() -> Path:
    """Folder of downloaded programs, shared by all checkouts of a user."""
    if chosen := os.environ.get("NEXAFI_CACHE_DIR"):
        return Path(chosen).expanduser().resolve()
    if os.geteuid() == 0:
        return Path("/var/cache/nexafi")
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "nexafi"


def data_dir() -> Path:
    """Folder of this checkout's data: ``NEXAFI_DATA_DIR``, else one that the servers' account can reach."""
    if chosen := os.environ.get("NEXAFI_DATA_DIR"):
        return Path(chosen).expanduser().resolve()
    if os.geteuid() == 0:
        return Path("/var/lib/nexafi") / checkout_id()
    return CHECKOUT / ".data"


def checkout_id() -> str:
    """Short, stable name of this checkout for folders outside of it."""
    return hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Layout:
    """The folders of one stack. ``root`` holds a folder a server, ``logs``, ``run`` and ``secrets.env``."""

    root: Path
    cache: Path
    account: Account | None

    @classmethod
    def here(cls, root: Path | None = None) -> Layout:
        """The layout of this checkout, or of the stack whose data is in ``root``."""
        return cls(root=root or data_dir(), cache=cache_dir(), account=server_account())

    @property
    def run(self) -> Path:
        """Pid, state and lock files."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log file a process."""
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        """Generated secrets, mode 600."""
        return self.root / secret_file.NAME

    def server(self, name: str) -> Path:
        """Data folder of one server."""
        return self.root / name

    def create(self) -> None:
        """Make the folders that do not exist, with the modes that the servers' account needs."""
        self._claim()
        for folder in (self.run, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.logs.chmod(0o700)  # servers write to what the supervisor has opened for them
        if self.account is not None:
            self.root.chmod(0o755)
            if problem := unreachable(self.root):
                raise RuntimeError(
                    f"The data folder {self.root} can not be reached by the account {self.account.name}, which "
                    f"runs the servers because root may not: {problem} is private. Set NEXAFI_DATA_DIR to another."
                )

    def _claim(self) -> None:
        """Mark the data folder as ours; a folder with anything else in it is never taken, so never wiped."""
        self.root.mkdir(parents=True, exist_ok=True)
        marker = self.root / _MARKER
        if marker.exists():
            return
        if foreign := {entry.name for entry in self.root.iterdir()} - _OURS:
            raise RuntimeError(
                f"{self.root} is not empty ({min(foreign)}) and was not made by NexaFi: "
                "set NEXAFI_DATA_DIR to an empty or new folder."
            )
        marker.write_text("The data of a NexaFi local stack: `./dev reset` removes all of it.\n")

    def wipe(self) -> None:
        """Remove all data; the caller has ended what uses it. Raises for a folder that NexaFi did not make."""
        if not (self.root / _MARKER).exists():
            raise RuntimeError(f"{self.root} has no {_MARKER}: NexaFi did not make it, so it is left alone.")
        for entry in self.root.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != _MARKER:
                entry.unlink()
        (self.root / _MARKER).unlink()
        if not os.path.ismount(self.root):
            self.root.rmdir()

    def own(self, folder: Path) -> None:
        """Make ``folder`` private to the account that runs the servers."""
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.give(folder)

    def give(self, path: Path) -> None:
        """Hand one file or folder to the account that runs the servers."""
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)


def unreachable(path: Path) -> Path | None:
    """The first folder on the way to ``path`` that other accounts can not traverse, if there is one."""
    for folder in (*reversed(path.parents), path):
        if folder.is_dir() and not folder.stat().st_mode & 0o001:
            return folder
    return None
