"""The table for people and the JSON for programs."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.rows import COPY, ROWS, Outcome, Row, Sizes

RESULTS: Final = Path(__file__).parent / "results"


def complete(found: Outcome) -> None:
    """Add the figures that are ratios of others."""
    if "topic" in found.figures and COPY in found.figures:
        found.figures["topic-of-copy"] = found.figures["topic"] / found.figures[COPY]


def record(found: Outcome, host: dict[str, Any], sizes: Sizes, installations: list[str]) -> dict[str, Any]:
    """Everything, ready for ``json.dumps``."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": host,
        "sizes": asdict(sizes),
        "measured": installations,
        "figures": {row.key: _figure(row, found.figures) for row in ROWS if row.key in found.figures},
        "facts": found.facts,
        "problems": found.problems,
    }


def _figure(row: Row, figures: dict[str, float]) -> dict[str, Any]:
    value = figures[row.key]
    shown: dict[str, Any] = {"work": row.work, "value": round(value, 4), "unit": row.unit}
    if row.wanted is not None:
        shown |= {"wanted": row.wanted, "better": row.better, "reached": row.reached(value)}
    if row.of is not None and row.of in figures:
        shown |= {"of": row.of, "ratio": round(value / figures[row.of], 4)}
    return shown


def write(data: dict[str, Any]) -> Path:
    """Keep a record under ``benchmarks/results``; its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{data['time'].replace(':', '')}.json"
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    return path


def show(console: Console, data: dict[str, Any]) -> None:
    """Print the table, open-loop latencies, processor shares, and what is wrong."""
    table = Table("work", "measured", "unit", "wanted", "", "of limit", box=None, header_style="bold")
    for figure in data["figures"].values():
        wanted, reached = figure.get("wanted"), figure.get("reached")
        bound = "" if wanted is None else f"{'<= ' if figure['better'] == 'less' else '>= '}{wanted:,}"
        mark = "" if reached is None else ("yes" if reached else "[red]no[/]")
        ratio = f"{figure['ratio']:.3f} of {figure['of'].removeprefix('limit-')}" if "ratio" in figure else ""
        table.add_row(figure["work"], number(figure["value"]), figure["unit"], bound, mark, ratio)
    console.print(table)
    if warning := machine.busy(data["machine"]):
        console.print(f"[yellow]{warning}[/]")
    if loads := data["facts"].get("open loop"):
        console.print("\nConstant rate, latency from the moment at which a request was due:")
        table = Table(
            "rate/s", "answered/s", "p50 ms", "p99 ms", "max ms", "refused", "client late ms", box=None
        )
        for load in loads:
            names = ("answered_per_s", "p50_ms", "p99_ms", "max_ms", "refused_or_not_sent", "client_late_ms")
            rate = f"{load['rate']:,.0f}" + ("" if load["sustained"] else " (not sustained)")
            table.add_row(rate, *(number(load[name]) for name in names))
        console.print(table)
    _show_cpu(console, data["facts"])
    for line in data["problems"]:
        console.print(f"[bold red]WRONG[/] {line}", soft_wrap=True)
    if not data["problems"]:
        compared = ", ".join(data["facts"].get("checks", {"nothing was loaded": ""}))
        console.print(f"\nNothing lost, nothing unbalanced, every digest the same ({compared}).")


def _show_cpu(console: Console, facts: dict[str, Any]) -> None:
    shares = dict(facts.get("cpu", {}))
    for name in ("topic", "views", "search"):
        if "cpu" in facts.get(name, {}):
            shares[name] = facts[name]["cpu"]
    each = dict(facts.get("cpu each", {}))
    if "cpu each" in facts.get("topic", {}):
        each["topic"] = facts["topic"]["cpu each"]
    for title, found in (
        ("Processor, per cent of one core", shares),
        ("Processor, microseconds for each command", each),
    ):
        if found:
            console.print(f"\n{title}:")
            console.print(_by_process(found))


def _by_process(shares: dict[str, dict[str, float]]) -> Table:
    names = list(dict.fromkeys(name for found in shares.values() for name in found))
    table = Table("load", *names, box=None)
    for load, found in shares.items():
        table.add_row(load, *(f"{found[n]:.0f}" if n in found else "" for n in names))
    return table


def number(value: float) -> str:
    """As many digits as mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"
