"""Rule: every `./dev` and `nexafi` line in the documentation and in the help is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks import __main__ as bench
from cli import devenv, examples
from cli.contracts import __main__ as contracts
from cli.main import app
from tests.kit.source import ROOT

ROOT_COMMAND = typer.main.get_command(app)
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        ROOT / "k8s" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
_PROGRAM = r"(?:NEXAFI_\w+=\S+ )*(?:\./dev|(?:\.venv/bin/)?nexafi)"
_INLINE = re.compile(rf"`({_PROGRAM}(?: [^`]*)?)`")
_LINE = re.compile(rf"^{_PROGRAM}(?: |$)")
_FIGURE = re.compile(r"\s{2,}[\d,.]+\s")
_FENCE = re.compile(r"^\s*```(\w*)")
#: What a page writes for "any value".
_ANY = re.compile(r"^(?:[A-Z][A-Z_]+|…)$")


def shown(text: str) -> Iterator[str]:
    """Command lines of a page: in code blocks (continued lines joined) and between backticks."""
    fenced = indented = False
    for line in text.replace("\\\n", " ").splitlines():
        if _FENCE.match(line):
            fenced = not fenced
            continue
        indented = not fenced and line.startswith("    ")
        if fenced or indented:
            command = line.strip().removeprefix("$ ")
            if _FIGURE.search(command):
                continue  # a row of the benchmarks' table, which is named after a command
            if _LINE.match(command) and "[" not in command:  # a usage line names kinds, no values
                yield re.split(r"\s(?:[|>&;]|2>)", command)[0]
        else:
            yield from (
                match[1] for match in _INLINE.finditer(line) if not re.search(r"[|\[{]|\.\.\.", match[1])
            )


def wrong(line: str) -> str | None:
    """Why the command line would not take ``line``; ``None`` when it would."""
    line = re.sub(r"<[^<>]+>", "VALUE", line)  # what a page writes for any value, also with spaces in it
    words = [word for word in shlex.split(line, comments=True) if not re.match(r"^NEXAFI_\w+=", word)]
    program, *arguments = words
    if program == "./dev" and (not arguments or arguments[0] in {*devenv.COMMANDS, "help", "sync"}):
        return _wrong_for_dev(arguments)
    return _wrong_for_nexafi(ROOT_COMMAND, ["nexafi"], arguments)


def _wrong_for_dev(arguments: list[str]) -> str | None:
    sources = {"schemas": contracts, "bench": bench}
    if arguments and arguments[0] in sources:
        source = Path(str(sources[arguments[0]].__file__)).read_text()
        unknown = [word for word in arguments[1:] if word.startswith("--") and f'"{word}"' not in source]
        return f"no option {unknown}" if unknown else None
    return None


def _wrong_for_nexafi(command: Any, path: list[str], words: list[str]) -> str | None:
    if hasattr(command, "real"):
        command = command.real()
    if hasattr(command, "commands"):
        if not words or words[0] in {"--help", "-h"}:
            return None
        if words[0] in command.commands:
            return _wrong_for_nexafi(command.commands[words[0]], [*path, words[0]], words[1:])
        return f"{' '.join(path)} has no command {words[0]!r}"
    context = command.context_class(command, info_name=" ".join(path), help_option_names=["-h", "--help"])
    try:
        values, left, _ = command.make_parser(context).parse_args(
            ["x" if _ANY.match(w) else w for w in words]
        )
    except Exception as error:  # whatever the parser objects to is the finding
        return f"{' '.join(path)}: {error}"
    if left:
        return f"{' '.join(path)} takes no {left}"
    missing = [each.name for each in command.params if each.required and values.get(each.name) in (None, ())]
    return (
        f"{' '.join(path)} needs {missing}" if missing and "help" not in values and len(words) > 0 else None
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_line_of_a_page_is_one(page: Path) -> None:
    found = {line: problem for line in shown(page.read_text()) if (problem := wrong(line)) is not None}
    assert found == {}


def test_every_example_in_the_help_is_one() -> None:
    lines = [line for each in examples.EXAMPLES.values() for line, _ in each]
    assert {line: problem for line in lines if (problem := wrong(line)) is not None} == {}
    assert len(lines) > 30


def test_the_documentation_names_commands_at_all() -> None:
    """The search that finds nothing would pass for ever."""
    lines = {line for page in PAGES for line in shown(page.read_text())}
    assert len(lines) > 60
    assert "./dev up" in lines


@pytest.mark.parametrize(
    "line",
    [
        "./dev upp",
        "nexafi status --jsonn",
        "./dev logs a b",
        "nexafi import pain.001 --no-such",
        "nexafi dead-letters lost ledger",
        "nexafi dead-letters discard ledger/1",
        "nexafi restore --from",
        "./dev schemas --no-such",
    ],
)
def test_a_line_that_rotted_is_found(line: str) -> None:
    assert wrong(line) is not None


def test_lines_are_found_in_blocks_and_in_text() -> None:
    page = "Say `./dev up -f`.\n\n```\n$ nexafi run \\\n    ledger | cat\nok\n```\n\n    NEXAFI_PORT_BASE=1 ./dev down # x\n"
    assert list(shown(page)) == ["./dev up -f", "nexafi run      ledger", "NEXAFI_PORT_BASE=1 ./dev down # x"]
