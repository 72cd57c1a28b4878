"""The project's own source as the architecture tests read it: committed files and their syntax trees."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Top-level packages; each is a room of docs/concepts/rooms.md.
ROOMS = (
    "schemas",
    "nexafi",
    "events",
    "services",
    "sagas",
    "projections",
    "gateway",
    "cli",
    "benchmarks",
)


@lru_cache(maxsize=1)
def committed_files() -> tuple[Path, ...]:
    """Files that git tracks or would track, so that a mistake shows before it is committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    return tuple(
        path for name in sorted(set(filter(None, listed.split("\0")))) if (path := ROOT / name).is_file()
    )


def python_files(*rooms: str) -> list[Path]:
    """Python files of the given rooms (all rooms when none is named)."""
    wanted = rooms or ROOMS
    return [p for p in committed_files() if p.suffix == ".py" and relative(p).split("/")[0] in wanted]


@lru_cache(maxsize=4096)
def tree(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def relative(path: Path) -> str:
    """Path within the project, with forward slashes."""
    return path.relative_to(ROOT).as_posix()


def functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function below ``node``, nested ones and methods included."""
    for child in ast.walk(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child


def imported_modules(module: ast.Module) -> Iterator[tuple[int, str]]:
    """``(line, absolute module)`` of every import; ``from a import b`` gives ``a`` and ``a.b``."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of a name or attribute chain; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])
