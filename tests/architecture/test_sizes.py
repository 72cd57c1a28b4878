"""Rule: a file stays under about 400 lines and a function under about 70, so that each can be read at one sitting."""

from __future__ import annotations

import ast

from tests.kit.source import functions, python_files, relative, tree

MAX_FILE_LINES = 420
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
    lengths = {
        relative(path): path.read_text(encoding="utf-8").count("\n")
        for path in [*python_files(), *python_files("tests")]
    }
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES and name not in LONGER_FILES} == {}
    assert lengths.keys() >= LONGER_FILES.keys(), "an exception names a file that is gone"


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
