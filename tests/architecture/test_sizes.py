"""Rule: a file stays under about 400 lines and a function under about 70, so that each can be read at one sitting."""

from __future__ import annotations

import ast

from tests.kit.source import ROOMS, ROOT, functions, python_files, relative, tree

MAX_FILE_LINES = 420
#: A suite that tells one story may be longer than what it tests.
MAX_TEST_FILE_LINES = 500
MAX_FUNCTION_LINES = 80
#: Path -> why it may be longer. Generated files only.
LONGER_FILES: dict[str, str] = {}


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, less those of its docstring and of text such as SQL."""
    text = {
        line
        for node in ast.walk(function)
        if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno is not None
        for line in range(node.lineno + 1, node.end_lineno + 1)
    }
    return (function.end_lineno or function.lineno) - function.lineno + 1 - len(text)


def test_no_python_file_is_too_long() -> None:
    for rooms, most in ((ROOMS, MAX_FILE_LINES), (("tests",), MAX_TEST_FILE_LINES)):
        lengths = {relative(p): p.read_text(encoding="utf-8").count("\n") for p in python_files(*rooms)}
        assert {name: n for name, n in lengths.items() if n > most and name not in LONGER_FILES} == {}
    assert all((ROOT / name).is_file() for name in LONGER_FILES), "an exception names a file that is gone"


def test_no_function_is_too_long() -> None:
    long = [
        f"{relative(path)}:{f.lineno} {f.name} has {lines_of_code(f)} lines"
        for path in python_files()
        for f in functions(tree(path))
        if lines_of_code(f) > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_text_inside_a_function_does_not_count() -> None:
    module = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return """\n    SELECT 1\n    """\n')
    assert [lines_of_code(f) for f in functions(module)] == [3]
