"""An ordinary user of this machine with a home of their own and checkouts in it: what `./dev` is for.

Root makes the home, and everything in it runs under an unprivileged account with an empty environment. What takes
minutes and is tested elsewhere is lent: the packages that this environment has (read-only, by a ``.pth`` file) and
the downloads of this user's cache (hard links).
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cli.stack.paths import CHECKOUT, cache_dir, unreachable

#: The account: it exists on every Linux, has no rights, and PostgreSQL finds its name.
ACCOUNT = "nobody"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOT_CLONED = shutil.ignore_patterns(
    ".git", ".venv", ".data", "__pycache__", ".*_cache", "*.egg-info", "build", "shared"
)


def python() -> str | None:
    """A Python of this version that the account can run, if there is one."""
    own = Path(os.path.realpath(sys.executable))
    if unreachable(own.parent) is None:
        return str(own)
    return shutil.which(f"python3.{sys.version_info[1]}", path=PATH)


@dataclass
class Person:
    """The user. ``home`` is theirs, mode 700."""

    home: Path
    uid: int
    gid: int
    checkouts: list[Path] = field(default_factory=list)

    @classmethod
    def arrive(cls) -> Person:
        """Make the home and lend it the downloads."""
        entry = pwd.getpwnam(ACCOUNT)
        person = cls(Path(tempfile.mkdtemp(prefix="nexafi-home-")), entry.pw_uid, entry.pw_gid)
        cache = person.home / ".cache" / "nexafi"
        if cache_dir().is_dir():
            ignored = shutil.ignore_patterns(".lock", ".copy-*")
            shutil.copytree(cache_dir(), cache, copy_function=_link, ignore=ignored, symlinks=True)
        person.own(person.home)
        return person

    def own(self, folder: Path) -> None:
        """Hand over ``folder`` with its folders; a file that is a hard link of ours stays ours to write."""
        for path in (folder, *folder.rglob("*")):
            if path.is_symlink() or path.is_dir() or path.stat().st_nlink == 1:
                os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def leave(self) -> list[psutil.Process]:
        """Remove the home; returns the processes that still ran for it, which are ended."""
        left = self.processes()
        for each in left:
            each.kill()
        shutil.rmtree(self.home)
        return left

    def clone(self, name: str, *, with_packages: bool = True) -> Path:
        """A checkout; ``with_packages`` lends it an environment, else its first `./dev` makes one."""
        checkout = self.home / name
        shutil.copytree(CHECKOUT, checkout, ignore=_NOT_CLONED)
        self.own(checkout)
        if with_packages:
            self._lend_packages(checkout)
        self.checkouts.append(checkout)
        return checkout

    def _lend_packages(self, checkout: Path) -> None:
        interpreter = python()
        assert interpreter is not None, "the test asks before it clones"
        venv = checkout / ".venv"
        self._check([interpreter, "-m", "venv", "--without-pip", str(venv)], checkout)
        (packages,) = venv.glob("lib/python3*/site-packages")
        ours = Path(psutil.__file__).parent.parent
        (packages / "lent.pth").write_text(f"{ours}\n")
        stamp = (
            f"import sys; sys.path.insert(0, {str(checkout / 'cli')!r}); import devenv as d; "
            "d.stamp_with('lock', d.digest(d.LOCK)); d.stamp_with('project', d.digest(d.ROOT / 'pyproject.toml'))"
        )
        self._check([str(venv / "bin" / "python"), "-I", "-c", stamp], checkout)

    def _check(self, argv: list[str], checkout: Path) -> None:
        done = self.run(argv, checkout)
        assert done.returncode == 0, done.stdout

    def run(
        self, argv: list[str], checkout: Path, env: Mapping[str, str] | None = None, timeout_s: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run ``argv`` as this user in ``checkout`` with nothing in the environment but a home and a path."""
        return subprocess.run(
            argv,
            cwd=checkout,
            env={"HOME": str(self.home), "PATH": PATH} | dict(env or {}),
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
            start_new_session=True,
            umask=0o022,
        )

    def dev(self, checkout: Path, port_base: int, *arguments: str, status: int = 0) -> str:
        """`./dev` with ``arguments``; returns what it said."""
        done = self.run(["./dev", *arguments], checkout, {"NEXAFI_PORT_BASE": str(port_base)})
        assert done.returncode == status, done.stdout
        return done.stdout

    def processes(self) -> list[psutil.Process]:
        """Every process of this machine that works in the home."""
        found = []
        for each in psutil.process_iter(["cmdline", "status", "cwd"]):
            if each.info["status"] == psutil.STATUS_ZOMBIE or each.pid == os.getpid():
                continue
            if str(self.home) in " ".join(each.info["cmdline"] or []) + " " + (each.info["cwd"] or ""):
                found.append(each)
        return found


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
