"""A lint for code that decides: no clock, no randomness, no I/O, no async, and no float where money is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.kit.source import ROOT, dotted, imported_modules, relative, tree

#: What a domain may import: computing, never acting. Anything else is refused.
PURE_MODULES = frozenset(
    "__future__ abc array bisect collections copy dataclasses decimal enum fractions functools hashlib heapq "
    "itertools math operator re string struct types typing unicodedata uuid "
    # computing of other people: parsing of bytes we hold, hashing, matching of names, model arithmetic
    "jellyfish numpy onnxruntime orjson pydantic rapidfuzz unidecode xxhash".split()
)
#: Our own modules that are pure themselves.
PURE_OURS = ("schemas", "events.begun", "events.decider", "nexafi.ids")
_CLOCKS = frozenset({"now", "utcnow", "today", "time_ns", "monotonic", "perf_counter"})
_RANDOM = frozenset({"uuid1", "uuid4", "urandom", "token_hex", "token_bytes", "getrandbits", "shuffle"})
_IO = frozenset({"open", "print", "input", "exec", "eval", "__import__", "breakpoint"})


def pure_modules(domain: Path) -> list[Path]:
    """``domain`` and every module of the same service that it stands on, directly or not."""
    package = ".".join(domain.relative_to(ROOT).with_suffix("").parts[:-1])
    found, todo = {domain}, [domain]
    while todo:
        for _, module in imported_modules(tree(todo.pop())):
            if module.startswith(f"{package}."):
                base = ROOT / Path(*module.split("."))
                for path in (base.with_suffix(".py"), base / "__init__.py"):
                    if path.is_file() and path not in found:
                        found.add(path)
                        todo.append(path)
    return sorted(found)


def impurities(path: Path, *, money: bool) -> list[str]:
    """``file:line what`` for everything impure in a module that decides."""
    package = ".".join(path.relative_to(ROOT).parts[:2]) if path.is_relative_to(ROOT) else ""
    name = relative(path) if path.is_relative_to(ROOT) else path.name
    return [f"{name}:{line} {what}" for line, what in _offences(tree(path), package, money=money)]


def _offences(module: ast.Module, package: str, *, money: bool) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, f"imports {a.name}") for a in node.names if not _pure(a.name, package))
        elif isinstance(node, ast.ImportFrom) and not _pure(node.module or "", package):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            if not all(_pure(each, package) for each in names):
                yield node.lineno, f"imports {node.module}"
        elif isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield node.lineno, "is asynchronous"
        elif isinstance(node, ast.Call):
            yield from _call(node, money=money)
        elif isinstance(node, ast.Constant) and isinstance(node.value, float) and money:
            yield node.lineno, f"has the float {node.value}"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and money:
            yield node.lineno, "divides with /, which gives a float"
        elif isinstance(node, ast.Global):
            yield node.lineno, "changes a global"


def _pure(module: str, package: str) -> bool:
    if module.split(".", maxsplit=1)[0] in PURE_MODULES:
        return True
    return any(module == ours or module.startswith(f"{ours}.") for ours in (*PURE_OURS, package) if ours)


def _call(node: ast.Call, *, money: bool) -> Iterator[tuple[int, str]]:
    name = dotted(node.func)
    last = name.rsplit(".", 1)[-1]
    if "." in name and last in _CLOCKS:
        yield node.lineno, f"reads a clock: {name}()"
    elif last in _RANDOM:
        yield node.lineno, f"is random: {name}()"
    elif name in _IO:
        yield node.lineno, f"does I/O: {name}()"
    elif name == "float" and money:
        yield node.lineno, "makes a float"
    elif name == "hash":
        yield node.lineno, "uses Python's salted hash()"
