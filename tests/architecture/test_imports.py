"""Rule: a room imports only what the table in docs/concepts/rooms.md allows (contracts in pyproject.toml)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.source import ROOMS, ROOT, imported_modules, python_files, relative, tree


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as c; c()",
        "--no-cache",
    ]
    return subprocess.run(
        command,
        cwd=folder,
        text=True,
        capture_output=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder), "COLUMNS": "200"},
    )


def test_every_import_contract_is_kept() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rooms as they are, in a folder where a forbidden import may be planted."""
    folder = tmp_path_factory.mktemp("rooms")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path in python_files():
        target = folder / relative(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder


@pytest.mark.parametrize(
    ("module", "forbidden", "contract"),
    [
        ("schemas/planted.py", "nexafi.ids", "schemas knows no other room"),
        ("nexafi/planted.py", "events.decider", "nexafi knows schemas only"),
        ("events/planted.py", "services.ledger", "the engine knows no domain"),
        ("services/ledger/planted.py", "services.payments", "a service never knows a sibling"),
        ("services/ledger/planted.py", "gateway", "a service knows no saga, no edge"),
        ("gateway/planted.py", "events.decider", "the gateway speaks to services"),
        ("sagas/planted.py", "services.payments", "sagas know services by their contracts only"),
        ("projections/planted.py", "services.payments", "projections know no domain"),
    ],
)
def test_a_planted_import_breaks_its_contract(copy: Path, module: str, forbidden: str, contract: str) -> None:
    planted = copy / module
    planted.write_text(f"import {forbidden}\n")
    try:
        result = lint(copy)
    finally:
        planted.unlink()
    assert result.returncode != 0
    broken = [line for line in result.stdout.splitlines() if line.startswith(contract)]
    assert any("BROKEN" in line for line in broken), result.stdout


def test_schemas_import_only_pydantic_and_the_standard_library() -> None:
    allowed = {*sys.stdlib_module_names, "pydantic", "pydantic_core", "annotated_types", "schemas"}
    foreign = [
        f"{relative(path)}:{line} imports {module}"
        for path in python_files("schemas")
        for line, module in imported_modules(tree(path))
        if module.split(".")[0] not in allowed
    ]
    assert foreign == []


def test_no_room_imports_the_tests() -> None:
    wrong = [
        f"{relative(path)}:{line}"
        for path in python_files(*ROOMS)
        for line, module in imported_modules(tree(path))
        if module.split(".")[0] == "tests"
    ]
    assert wrong == []
