"""Rule: docs/reliability.md has a row for every promise, and names only tests that exist."""

from __future__ import annotations

import re

from tests.kit.source import ROOT, functions, tree

PROMISES = [*(f"R{n}" for n in range(1, 26)), *(f"S{n}" for n in range(1, 26))]
_ROW = re.compile(
    r"^\| (?P<id>[RS]\d+) \| (?P<promise>[^|]+) \| (?P<figure>[^|]+) \| (?P<state>[^|]+) \| (?P<tests>[^|]*) \|$"
)


def rows() -> list[re.Match[str]]:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    return [match for line in text.splitlines() if (match := _ROW.match(line))]


def exists(test: str) -> bool:
    """Whether ``path`` or ``path::function`` names something that pytest would collect."""
    name, _, function = test.partition("::")
    path = ROOT / name
    if not path.is_file() or not path.name.startswith("test_"):
        return False
    return not function or function.rsplit("::", 1)[-1] in {f.name for f in functions(tree(path))}


def test_every_promise_has_one_row() -> None:
    assert [row["id"] for row in rows()] == PROMISES


def test_every_test_that_is_named_exists() -> None:
    named = [(row["id"], test) for row in rows() for test in re.findall(r"`([^`]+)`", row["tests"])]
    assert [each for each in named if not exists(each[1])] == []
    assert len(named) > 10


def test_a_promise_is_shown_by_a_test_or_says_that_it_is_not() -> None:
    for row in rows():
        state, shown = row["state"].strip(), "`" in row["tests"]
        assert state in ("not yet", "shown") or state.startswith(("in part: ", "shown: ")), row["id"]
        assert shown == (state != "not yet"), row["id"]


def test_a_test_that_is_gone_is_noticed() -> None:
    assert exists("tests/architecture/test_reliability.py::test_every_promise_has_one_row")
    assert not exists("tests/architecture/test_reliability.py::test_that_never_was")
    assert not exists("tests/architecture/test_gone.py")
