"""`./dev`: make the environment from the lock file, then hand over to it.

Runs under any Python 3.11+ with the standard library alone; nothing of the project may be imported here.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("NEXAFI_VENV", ROOT / ".venv"))
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"

_LOCK_COMMAND = "./dev lock"
_HELP = """\
./dev COMMAND: NexaFi on this machine. The environment (.venv) is made from requirements.lock when needed.

  up [-f] [--servers-only]   start real servers and all roles      (./dev up --help says more)
  down                       end everything in order; data stays
  status, logs [name] [-f]   what runs, and what it wrote
  doctor                     check this machine and the stack
  reset [--yes]              remove this checkout's data
  test [unit|PATHS|OPTIONS]  lint, types and all tests; `unit` takes seconds; anything else goes to pytest
  test soak [PATHS|OPTIONS]  every promise at its full figure (hours); docs/soak keeps what was printed
  lint                       ruff, mypy and the import contracts; lint --fix mends what it can
  bench [--quick] [profile]  measure on installations of its own, then check that nothing was lost
  schemas                    regenerate every committed contract
  lock                       resolve requirements.lock anew
  sync                       make or renew .venv, and nothing else
  shell                      a shell inside the environment
  ...                        anything else goes to the nexafi command: ./dev --help lists it
"""


def say(text: str) -> None:
    """One line of progress, on standard error so that output can be piped."""
    print(text, file=sys.stderr, flush=True)


def fail(text: str) -> int:
    """Say why it can not go on."""
    say(text)
    return 1


# --- the environment


def digest(*files: Path) -> str:
    """One digest over the content of ``files`` and the Python they are for."""
    total = hashlib.sha256(f"{sys.version_info[:2]} {ROOT}".encode())
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()


def stamped(name: str, value: str) -> bool:
    """Whether the environment was made from what ``value`` is the digest of."""
    stamp = VENV / f".nexafi-{name}"
    return stamp.exists() and stamp.read_text() == value


def stamp_with(name: str, value: str) -> None:
    """Remember what the environment was made from."""
    (VENV / f".nexafi-{name}").write_text(value)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two `./dev` at once make one environment; the kernel frees the lock of one that dies."""
    with (ROOT / "dev").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def ensure() -> None:
    """Make `.venv` as the lock file and ``pyproject.toml`` say; takes milliseconds when it is so already."""
    locked, project = digest(LOCK), digest(ROOT / "pyproject.toml")
    if PYTHON.exists() and stamped("lock", locked) and stamped("project", project):
        return
    with one_at_a_time():
        begun = time.monotonic()
        if not _works(PYTHON):
            _make_venv()
        if not stamped("lock", locked):
            say(f"Installing the packages of requirements.lock into {VENV.name} (once) ...")
            _install_locked()
            stamp_with("lock", locked)
        if not stamped("project", project):
            _install_project()
            stamp_with("project", project)
        say(f"The environment is ready ({time.monotonic() - begun:.0f} s).")


def _works(python: Path) -> bool:
    if not python.exists():
        return False
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0


def _pip() -> list[str]:
    """The command that installs into the environment: its own pip, else that of the Python that runs this."""
    own = [str(PYTHON), "-m", "pip"]
    if not _can_import(str(PYTHON), "pip") and _can_import(str(PYTHON), "ensurepip"):
        _run([str(PYTHON), "-m", "ensurepip", "--default-pip"])  # uv makes environments without pip
    if _can_import(str(PYTHON), "pip"):
        return own
    if _can_import(sys.executable, "pip"):
        return [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    raise SystemExit(
        "Neither pip nor uv is to be had. On Debian and Ubuntu both venv and pip are packages of their own: "
        "apt install python3-venv python3-pip"
    )


def _can_import(python: str, module: str) -> bool:
    return (
        subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
    )


def _make_venv() -> None:
    say(f"Making {VENV} with Python {sys.version.split()[0]} ...")
    base = getattr(sys, "_base_executable", sys.executable)
    for options in ([], ["--without-pip"]):  # Debian's Python lacks ensurepip until python3-venv is installed
        made = subprocess.run(
            [base, "-m", "venv", "--clear", *options, str(VENV)], capture_output=True, text=True, check=False
        )
        if made.returncode == 0:
            return
    shutil.rmtree(VENV, ignore_errors=True)
    raise SystemExit(
        f"{made.stdout}{made.stderr}\nThe environment could not be made: apt install python3-venv"
    )


def _install_locked() -> None:
    uv = _uv()
    if uv is not None:
        command = [str(uv), "pip", "install", "--python", str(PYTHON), "--require-hashes", "-r", str(LOCK)]
        if not sys.stderr.isatty():
            command.append("--quiet")
        if _run(command, env=_uv_env()) == 0:
            return
        say("uv could not install the packages; trying pip ...")
    command = [
        str(PYTHON),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--require-hashes",
        "-r",
        str(LOCK),
    ]
    if _run(command) != 0:
        raise SystemExit(
            "The packages could not be installed. Check the network and the settings of pip, and try again."
        )


def pinned(lock: str, name: str) -> str | None:
    """The lines of a lock file that pin ``name``, with its digests."""
    found = re.search(rf"^{re.escape(name)}==\S+ \\\n(?:    --hash=\S+(?: \\)?\n)+", lock, re.MULTILINE)
    return found.group() if found else None


def _uv() -> Path | None:
    """uv at the version and digest of the lock file, installed into the environment; ``None`` without it."""
    own = VENV / "bin" / "uv"
    pin = pinned(LOCK.read_text(), "uv")
    found = shutil.which("uv")
    if pin is None or not (_can_import(str(PYTHON), "pip") or _can_import(str(PYTHON), "ensurepip")):
        return own if own.exists() else Path(found) if found else None
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "uv.txt"
        wanted.write_text(pin)
        command = [*_pip(), "install", "-q", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        done = subprocess.run([*command, "-r", wanted], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        say(f"uv is not to be had ({reason}); pip does its work, slower.")
        return None
    return own


def _uv_env() -> dict[str, str]:
    """uv asks where pip was told to ask, so that a company's mirror is set in one place."""
    env = dict(os.environ)
    if "UV_DEFAULT_INDEX" not in env and "UV_INDEX_URL" not in env:
        index = env.get("PIP_INDEX_URL") or _pip_setting("global.index-url")
        if index:
            env["UV_DEFAULT_INDEX"] = index
    bundle = env.get("PIP_CERT") or _pip_setting("global.cert")
    if bundle:
        env.setdefault("SSL_CERT_FILE", bundle)
    env.setdefault("UV_HTTP_TIMEOUT", "120")
    return env


def _pip_setting(name: str) -> str:
    if not _can_import(str(PYTHON), "pip"):
        return ""
    command = [str(PYTHON), "-m", "pip", "config", "get", name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _install_project() -> None:
    options = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    uv = VENV / "bin" / "uv"
    if uv.exists():
        status = _run([str(uv), "pip", "install", "-q", "--python", str(PYTHON), *options], env=_uv_env())
    else:
        status = _run([*_pip(), "install", "-q", "--disable-pip-version-check", *options])
    if status != 0:
        raise SystemExit("The project itself could not be installed (see above).")


# --- commands


def _run(command: list[str], env: dict[str, str] | None = None) -> int:
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


def _python(*arguments: str) -> int:
    return _run([str(PYTHON), *arguments])


def _tool(name: str, *arguments: str) -> int:
    return _run([str(VENV / "bin" / name), *arguments])


def lint(arguments: list[str]) -> int:
    """Static checks; all of them run, so that one round shows everything."""
    fix = "--fix" in arguments
    checks: list[tuple[str, list[str]]] = [
        ("ruff", ["check", *(["--fix"] if fix else []), "."]),
        ("ruff", ["format", *([] if fix else ["--check"]), "."]),
        ("mypy", []),
    ]
    if "[tool.importlinter]" in (ROOT / "pyproject.toml").read_text() or (ROOT / ".importlinter").exists():
        checks.append(("lint-imports", []))
    failed = []
    for name, options in checks:
        label = " ".join([name, *options])
        begun = time.monotonic()
        status = _tool(name, *options)
        say(f"{'FAILED' if status else 'ok'}: {label} ({time.monotonic() - begun:.1f} s)")
        if status:
            failed.append(label)
    if failed:
        say("Failed: " + "; ".join(failed))
    return 1 if failed else 0


def test(arguments: list[str]) -> int:
    """All checks and all tests; with arguments only those tests. pytest's own summary comes last."""
    if arguments[:1] == ["unit"]:
        folders = [folder for folder in ("tests/unit", "tests/architecture") if (ROOT / folder).is_dir()]
        return _python("-m", "pytest", "-q", "-m", "not stack and not soak", *folders, *arguments[1:])
    if arguments[:1] == ["soak"]:
        return _python("-m", "pytest", "-m", "soak", "-s", "--timeout", "3600", *arguments[1:])
    if arguments:
        known = ROOT / "tests" / arguments[0]
        return _python("-m", "pytest", *([str(known)] if known.is_dir() else arguments[:1]), *arguments[1:])
    linted = lint([])
    tested = _python("-m", "pytest")
    return linted or tested


def lock(arguments: list[str]) -> int:
    """Resolve the newest versions that ``pyproject.toml`` allows (``--upgrade``), or the fewest changes."""
    uv = VENV / "bin" / "uv"
    if not uv.exists():
        return fail("uv is not in the environment: ./dev sync")
    command = [str(uv), "pip", "compile", "--universal", "--generate-hashes", "--python-version", "3.11"]
    command += ["--all-extras", "pyproject.toml", "-o", LOCK.name, "--no-annotate", "--no-emit-index-url"]
    status = _run([*command, "--quiet", "--custom-compile-command", _LOCK_COMMAND, *arguments], env=_uv_env())
    if status == 0:
        runtime = [str(uv), "pip", "compile", "--universal", "--generate-hashes", "--python-version", "3.11"]
        runtime += ["pyproject.toml", "-c", LOCK.name, "-o", "requirements-runtime.lock", "--no-annotate"]
        runtime += ["--no-emit-index-url", "--quiet", "--custom-compile-command", _LOCK_COMMAND]
        status = _run(runtime, env=_uv_env())
    if status == 0 and "://" in LOCK.read_text():
        return fail("requirements.lock names a host: an index of this machine got into it. Do not commit it.")
    return status


def schemas(arguments: list[str]) -> int:
    """Regenerate JSON Schema, OpenAPI and AsyncAPI documents and the clients made from them."""
    return _python("-m", "cli.contracts", *arguments)


def bench(arguments: list[str]) -> int:
    """Measure."""
    return _python("-m", "benchmarks", *arguments)


def shell(_arguments: list[str]) -> int:
    """A shell in which the environment's programs come first."""
    env = dict(os.environ) | {
        "VIRTUAL_ENV": str(VENV),
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    return _run([os.environ.get("SHELL", "/bin/sh")], env=env)


COMMANDS = {"lint": lint, "test": test, "lock": lock, "schemas": schemas, "bench": bench, "shell": shell}


def hand_over(arguments: list[str]) -> NoReturn:
    """Become the ``nexafi`` command: one process less between a person and Ctrl-C."""
    os.chdir(ROOT)
    os.execv(PYTHON, [str(PYTHON), "-m", "cli", *arguments])  # noqa: S606


def main(arguments: list[str]) -> int:
    """Entry point."""
    if not arguments or arguments[0] == "help":
        print(_HELP, end="")
        return 0
    # Without bytecode each of some ten processes compiles all that it imports at every start. The folders
    # that it is written to are this checkout's own and ignored by git.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    ensure()
    name, rest = arguments[0], arguments[1:]
    if name == "sync":
        return 0
    if name in COMMANDS:
        return COMMANDS[name](rest)
    return hand_over(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
