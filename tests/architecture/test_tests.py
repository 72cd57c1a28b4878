"""Rule: a test asserts something, says so by its name, and every marker is explained where people look."""

from __future__ import annotations

import ast
import re
import tomllib
from typing import Any

import pytest

from tests.kit.source import ROOT, dotted, functions, python_files, relative, tree

#: A call to one of these asserts on behalf of the test.
_ASSERTING = re.compile(
    r"^_?(?:raises|warns|fail|accepted|rejected|then|assert\w*|expect\w*|check\w*|must\w*|verify\w*|eventually\w*)$"
)
_SKIPS = {"pytest.mark.skip", "pytest.mark.xfail", "pytest.skip", "pytest.xfail"}
#: Test -> why it may be skipped. Only what a machine can not have, never what the project lacks.
ALLOWED_SKIPS: dict[str, str] = {}


def asserts(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function asserts, itself or through a call whose name says so."""
    return any(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and _ASSERTING.match(_last_name(node.func)) is not None)
        for node in ast.walk(function)
    )


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_every_test_asserts() -> None:
    silent = [
        f"{relative(path)}:{f.lineno} {f.name}"
        for path in python_files("tests")
        if path.name.startswith("test_")
        for f in functions(tree(path))
        if f.name.startswith("test") and not asserts(f)
    ]
    assert silent == []


def test_no_test_is_skipped_for_good() -> None:
    wrong = [
        f"{relative(path)}:{node.lineno}"
        for path in python_files("tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and dotted(node) in _SKIPS and relative(path) not in ALLOWED_SKIPS
    ]
    assert wrong == []


def configuration() -> dict[str, Any]:
    options: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"][
        "ini_options"
    ]
    return options


def test_every_marker_is_explained() -> None:
    assert "--strict-markers" in configuration()["addopts"]
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for marker in configuration()["markers"]:
        name, _, meaning = marker.partition(":")
        assert len(meaning.strip()) > 10, f"marker {name} has no explanation"
        assert f"`{name}`" in guide, f"CONTRIBUTING.md does not explain the marker {name}"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def test_a(): assert 1", True),
        ("def test_a():\n    with pytest.raises(X):\n        y()", True),
        ("def test_a(): s.when(c).rejected('r')", True),
        ("def test_a(): s.when(c)", False),
        ("def test_a(): ...", False),
    ],
)
def test_silent_tests_are_found(code: str, expected: bool) -> None:
    (function,) = functions(ast.parse(code))
    assert asserts(function) is expected
