"""The command line: quick to start, sub-commands by file, and an environment that follows the lock file."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli import main
from cli.stack.paths import CHECKOUT

_HEAVY = ("pydantic", "psutil", "psycopg", "sqlalchemy", "fastapi", "aiokafka", "cli.stack.supervisor")


def test_help_loads_nothing_that_takes_long() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from cli.main import app\n"
        "r = CliRunner().invoke(app, ['--help']); assert r.exit_code == 0, r.output\n"
        f"print([m for m in {_HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=CHECKOUT
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()

    @app.command()
    def hello(name: str) -> None:
        print(f"hello {name}")

    @app.command()
    def bye() -> None:
        raise typer.Exit(3)

    sub = types.ModuleType("cli.plugged")
    sub.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cli.plugged", sub)
    later = main._Later("plugged", "cli.plugged", "Operate", "A test.")
    monkeypatch.setattr(
        main._Root, "get_command", lambda self, ctx, name: later if name == "plugged" else None
    )


@pytest.mark.usefixtures("plugged")
def test_a_module_of_its_own_is_a_sub_command() -> None:
    run = CliRunner()
    assert run.invoke(main.app, ["plugged", "hello", "Ada"]).output == "hello Ada\n"
    assert run.invoke(main.app, ["plugged", "bye"]).exit_code == 3
    assert "hello" in run.invoke(main.app, ["plugged", "--help"]).output


def test_only_modules_that_exist_are_shown() -> None:
    shown = CliRunner().invoke(main.app, ["--help"]).output
    for name, (module, _, _) in main.SUBCOMMANDS.items():
        assert (f"│ {name} " in shown) == (importlib.util.find_spec(module) is not None)


def test_roles_are_listed() -> None:
    assert "payment-saga" in CliRunner().invoke(main.app, ["roles"]).output


def test_the_environment_knows_the_pinned_uv() -> None:
    from cli import devenv

    text = devenv.LOCK.read_text()
    assert "://" not in text
    pin = devenv.pinned(text, "uv")
    assert pin is not None
    assert pin.startswith("uv==")
    assert pin.count("--hash=sha256:") > 3
    assert devenv.pinned(text, "no-such-package") is None


def test_another_lock_file_is_another_environment(tmp_path: Path) -> None:
    from cli import devenv

    lock = tmp_path / "lock"
    lock.write_text("a==1\n")
    first = devenv.digest(lock)
    lock.write_text("a==2\n")
    assert devenv.digest(lock) != first
