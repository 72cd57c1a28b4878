"""``./dev bench``: measure, then prove that nothing was lost on the way.

Without options everything is measured on installations of its own, made empty for the run and removed
afterwards: first the engine alone (servers and one role at a time), then everything that ``./dev up`` starts, over
HTTP. The client runs on the same machine, and its share of the processor is printed. docs/concepts/benchmarks.md says
how each figure is made.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Coroutine, Set
from contextlib import nullcontext
from typing import Any, TypeVar

import uvloop
from rich.console import Console

from benchmarks import engine, installation, machine, profiler, report, topic
from benchmarks.rows import EDGE, ENGINE, FULL, GROUPS, QUICK, Outcome, Sizes
from benchmarks.traffic import Traffic

T = TypeVar("T")
#: What a profile of a row looks at; the others are servers or wait.
PROFILED = ("singles", "bulk", "saga", "topic")


def main() -> int:
    """Exit 1 when a check fails, 2 when nothing could be measured."""
    options = _options()
    errors = Console(stderr=True, highlight=False)
    groups = set(options.only or GROUPS)
    sizes = QUICK if options.quick else FULL
    kept = profiler.Profiler(report.RESULTS / f"profile-{options.row}") if options.what == "profile" else None
    if kept is not None:
        groups, sizes = {options.row}, QUICK
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    measured, where, host = measure(groups, sizes, options, errors, kept)
    report.complete(measured)
    data = report.record(measured, host, sizes, where)
    path = report.write(data)
    if options.json:
        print(json.dumps(data, indent=2))
    else:
        report.show(console, data)
        console.print(f"\n{path}", soft_wrap=True)
    if kept is not None:
        for name, shares in kept.stop().items():
            print(profiler.table(name, shares))
        print(f"Collapsed stacks for flame graphs: {kept.folder}")
    return 1 if measured.problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("profile",), help="Profile one row instead of measuring.")
    parser.add_argument("row", nargs="?", choices=PROFILED, help="The row to profile.")
    parser.add_argument("--only", type=_groups, metavar="ROWS", help=f"Of {', '.join(GROUPS)}; with commas.")
    parser.add_argument("--quick", action="store_true", help="A tenth of everything: minutes become seconds.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of the table.")
    parser.add_argument("--keep", action="store_true", help="Leave the data of its own installations.")
    parser.add_argument(
        "--running", action="store_true", help="HTTP rows on the installation that runs (its load counts)."
    )
    options = parser.parse_args()
    if options.what == "profile" and options.row is None:
        parser.error(f"profile which row? {', '.join(PROFILED)}")
    return options


def _groups(text: str) -> list[str]:
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if unknown := set(wanted) - set(GROUPS):
        raise argparse.ArgumentTypeError(f"no such row: {', '.join(sorted(unknown))}")
    return wanted


def measure(
    groups: Set[str],
    sizes: Sizes,
    options: argparse.Namespace,
    console: Console,
    kept: profiler.Profiler | None,
) -> tuple[Outcome, list[str], dict[str, Any]]:
    """The outcome, the installations in words, and the machine."""
    found, where, host = Outcome(), list[str](), dict[str, Any]()
    load = os.getloadavg()

    def say(text: str) -> None:
        console.print(text, style="dim")

    def begin(here: installation.Installation) -> None:
        where.append(here.words)
        console.print(f"Measuring {here.words}", soft_wrap=True)
        if not host:
            host.update(machine.describe(here.settings, here.layout.root, load))

    limited = "limits" not in groups
    if groups & ENGINE or groups == {"limits"}:
        with installation.own(groups=False, keep=options.keep) as here:
            begin(here)
            if not limited:
                topic.migrate(here)
                found.add(_run(engine.measure_limits(here)))
                limited = True
            if groups & ENGINE:
                found.add(_run(engine.measure(here, groups, sizes, say, kept)))
    if groups & EDGE:
        running = installation.running() if options.running else None
        if options.running and running is None:
            raise SystemExit("Nothing runs: start the platform with ./dev up, or leave --running out.")
        with nullcontext(running) if running else installation.own(groups=True, keep=options.keep) as here:
            begin(here)
            if not limited:
                found.add(_run(engine.measure_limits(here)))
            part = _run(Traffic(here, sizes, say, kept).measure(groups & EDGE))
            part.facts["checks"] = found.facts.get("checks", {}) | part.facts["checks"]
            found.add(part)
    return found, where, host


def _run(work: Coroutine[Any, Any, T]) -> T:
    """On uvloop, as the roles do: a slower client would take more of the two cores."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


if __name__ == "__main__":
    sys.exit(main())
