"""Rule: names say what a thing is; public functions say what they give; nothing is printed or swallowed in passing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.source import committed_files, dotted, functions, python_files, relative, tree

_LEFTOVERS = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "manager",
    "managers",
    "misc",
    "stuff",
    "base_utils",
}
#: The one shared kernel of the contracts has this name in the design.
_ALLOWED_NAMES = {"schemas/common"}
_VAGUE_CLASS = re.compile(r"(?:Manager|Helper|Helpers|Utils|Util)$")
#: Rooms whose public functions all carry a docstring.
_DOCUMENTED = ("schemas", "events", "services", "nexafi")
#: Rooms that talk to a person on a terminal.
_TALKING = ("cli", "benchmarks")


def vague_names(paths: list[str]) -> list[str]:
    """Paths that have a folder or module named after nothing in particular."""
    wrong = []
    for name in paths:
        parts = Path(name).with_suffix("").parts
        for i, part in enumerate(parts):
            if part.lower() in _LEFTOVERS and "/".join(parts[: i + 1]) not in _ALLOWED_NAMES:
                wrong.append(name)
    return wrong


def swallowed(module: ast.Module) -> Iterator[int]:
    """Lines of handlers that catch everything and say or do nothing."""
    for node in ast.walk(module):
        if isinstance(node, ast.ExceptHandler):
            caught = dotted(node.type) if node.type is not None else "everything"
            if caught == "everything" or (
                caught in {"Exception", "BaseException"} and all(_idle(each) for each in node.body)
            ):
                yield node.lineno


def _idle(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass | ast.Continue) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def undocumented(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Public functions and classes at the top of a module, and public methods, without a docstring."""
    for owner in [
        module,
        *(n for n in module.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")),
    ]:
        for node in owner.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_") or _explained_elsewhere(node):
                continue
            if ast.get_docstring(node) is None:
                yield node.lineno, node.name


def _explained_elsewhere(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """An override is documented where it is declared, an overload at its implementation."""
    marks = {dotted(d.func if isinstance(d, ast.Call) else d).rsplit(".", 1)[-1] for d in node.decorator_list}
    return bool(marks & {"override", "overload", "setter"}) or any(
        mark.endswith("validator") for mark in marks
    )


def overrides(path: Path) -> set[str]:
    """Method names that a class takes over from a base outside of its own module (documented there)."""
    return {
        f.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        and any(dotted(b.value if isinstance(b, ast.Subscript) else b) for b in node.bases)
        for f in node.body
        if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_no_module_is_named_after_nothing() -> None:
    assert vague_names([relative(p) for p in committed_files() if p.suffix == ".py"]) == []


def test_no_class_is_named_after_nothing() -> None:
    wrong = [
        f"{relative(path)}:{node.lineno} {node.name}"
        for path in python_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and _VAGUE_CLASS.search(node.name)
    ]
    assert wrong == []


def test_public_functions_are_documented() -> None:
    wrong = [
        f"{relative(path)}:{line} {name}"
        for path in python_files(*_DOCUMENTED)
        for line, name in undocumented(tree(path))
        if name not in overrides(path)
    ]
    assert wrong == []


def test_every_module_says_what_it_is() -> None:
    wrong = [
        relative(path)
        for path in python_files()
        if tree(path).body and ast.get_docstring(tree(path)) is None and path.name != "__init__.py"
    ]
    assert wrong == []


def test_only_the_command_line_prints() -> None:
    wrong = [
        f"{relative(path)}:{node.lineno}"
        for path in python_files()
        if relative(path).split("/")[0] not in _TALKING
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and dotted(node.func) == "print"
    ]
    assert wrong == []


def test_no_error_is_swallowed() -> None:
    wrong = [
        f"{relative(p)}:{line}"
        for p in [*python_files(), *python_files("tests")]
        for line in swallowed(tree(p))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("try:\n    x()\nexcept:\n    log()\n", [3]),
        ("try:\n    x()\nexcept Exception:\n    pass\n", [3]),
        ("try:\n    x()\nexcept Exception:\n    '''why'''\n", [3]),
        ("try:\n    x()\nexcept ValueError:\n    pass\n", []),
        ("try:\n    x()\nexcept Exception:\n    raise\n", []),
    ],
)
def test_swallowing_is_found(code: str, lines: list[int]) -> None:
    assert list(swallowed(ast.parse(code))) == lines


def test_vague_names_are_found() -> None:
    assert vague_names(["services/ledger/utils.py", "events/helpers/x.py", "schemas/common/base.py"]) == [
        "services/ledger/utils.py",
        "events/helpers/x.py",
    ]


def test_missing_docstrings_are_found() -> None:
    code = 'class A:\n    """A."""\n    def b(self): ...\n    def _c(self): ...\n\ndef d(): ...\n'
    assert [name for _, name in undocumented(ast.parse(code))] == ["d", "b"]
    assert [f.name for f in functions(ast.parse(code))] == ["d", "b", "_c"]
