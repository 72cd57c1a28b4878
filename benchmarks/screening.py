"""What screening finds, what it finds wrongly, and how fast: ``python -m benchmarks.screening [--quick]``.

Recall asks, for an altered name of a list entry, whether that very entry is among the hits. False positives are hits of
ordinary names (``benchmarks/data/ordinary_names.json``), exact coincidences included. The list and the names that the matcher
was tuned on are the ones it is measured on here: these figures say that it does what it was built for, not
how it does elsewhere.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from benchmarks import ordinary
from benchmarks.alterations import ALTERATIONS, Alteration
from services.compliance.lists import ofac
from services.compliance.lists.entries import SanctionsList
from services.compliance.matching.screener import CACHED_NAMES, ListScreener
from services.compliance.screening import Screener

SEED: Final = 20
THRESHOLDS_BP: Final = (8_000, 8_200, 8_300, 8_400, 8_600, 8_800)


class Case(NamedTuple):
    """A name of an entry that is to be found again."""

    entry_id: str
    name: str
    person: bool


@dataclass(frozen=True, slots=True)
class Speed:
    """Names per second on one core and the time of one name, in microseconds; the cache of names never helps."""

    names_per_s: int
    p50_us: int
    p95_us: int
    p99_us: int


def primary_names(source: SanctionsList) -> list[Case]:
    """The first name of every entry."""
    return [Case(entry.id, entry.name, entry.type == "individual") for entry in source.entries]


def other_names(source: SanctionsList) -> list[Case]:
    """Every other name, weak ones included."""
    return [
        Case(entry.id, name.text, entry.type == "individual")
        for entry in source.entries
        for name in entry.names[1:]
    ]


def sample(cases: Sequence[Case], count: int | None, seed: int = SEED) -> Sequence[Case]:
    """``count`` of the cases (all when ``None``)."""
    if count is None or count >= len(cases):
        return cases
    return random.Random(seed).sample(cases, count)


def recall_bp(screener: Screener, cases: Iterable[Case], alteration: Alteration, seed: int = SEED) -> int:
    """Share of altered names whose own entry is found, in basis points."""
    draw = random.Random(seed)
    found = asked = 0
    for case in cases:
        asked += 1
        typed = alteration(case.name, case.person, draw)
        found += any(match.entry_id == case.entry_id for match in screener.screen(typed, None))
    return 10_000 * found // max(asked, 1)


def false_positives_bp(screener: Screener, names: Iterable[str]) -> int:
    """Share of ordinary names with a hit, in basis points."""
    hits = asked = 0
    for name in names:
        asked += 1
        hits += bool(screener.screen(name, None))
    return 10_000 * hits // max(asked, 1)


def ordinary_names(each: int, seed: int = SEED) -> list[str]:
    """``each`` names of every culture, and as many companies, in one mixture."""
    mixed = [name for group in ordinary.groups() for name in ordinary.names(group, each, seed)]
    random.Random(seed).shuffle(mixed)
    return mixed


def speed(screener: ListScreener, names: Sequence[str]) -> Speed:
    """Screen names one after another on a fresh cache, each different one once."""
    fresh = list(dict.fromkeys(names))
    gc.collect()
    gc.freeze()
    took: list[int] = []
    start = time.perf_counter_ns()
    for name in fresh:
        before = time.perf_counter_ns()
        screener.screen(name, None)
        took.append(time.perf_counter_ns() - before)
    total = time.perf_counter_ns() - start
    gc.unfreeze()
    took.sort()
    at = [took[len(took) * share // 100] // 1000 for share in (50, 95, 99)]
    return Speed(len(fresh) * 1_000_000_000 // total, *at)


def mixed_names(source: SanctionsList, count: int, seed: int = SEED) -> list[str]:
    """What a speed is measured on: nine in ten ordinary, one in ten a listed name with an error."""
    error = ALTERATIONS["one error"]
    draw = random.Random(seed)
    listed = [error(c.name, c.person, draw) for c in sample(primary_names(source), count // 10, seed)]
    plain = ordinary_names(max(1, count // len(ordinary.groups())), seed)[: count - len(listed)]
    mixed = listed + plain
    draw.shuffle(mixed)
    return mixed


def _percent(bp: int) -> str:
    return f"{bp / 100:6.2f} %"


def _report(quick: bool) -> None:
    source = ofac.load()
    count = 500 if quick else None
    each = 100 if quick else 2_000
    before = time.perf_counter()
    screener = ListScreener(source)
    print(f"{len(source.entries)} entries, {source.names} names, list {source.version[:12]}")
    print(f"matcher {screener.matcher}, threshold {screener.threshold_bp} bp")
    print(
        f"built in {time.perf_counter() - before:.2f} s\n\n| name of the entry | first names | other names |"
    )
    print("|---|---|---|")
    for label, alteration in ALTERATIONS.items():
        first = recall_bp(screener, sample(primary_names(source), count), alteration)
        other = recall_bp(screener, sample(other_names(source), count), alteration)
        print(f"| {label} | {_percent(first)} | {_percent(other)} |")
    print("\n| ordinary names | with a hit |\n|---|---|")
    for group in ordinary.groups():
        print(f"| {group} | {_percent(false_positives_bp(screener, ordinary.names(group, each, SEED)))} |")
    print(f"| all | {_percent(false_positives_bp(screener, ordinary_names(each)))} |")
    print(
        "\n| threshold | one error, first names | one error, all other | ordinary names with a hit |\n|---|---|---|---|"
    )
    for threshold in THRESHOLDS_BP:
        at = ListScreener(source, threshold)
        one = ALTERATIONS["one error"]
        first = recall_bp(at, sample(primary_names(source), 1_500), one)
        other = recall_bp(at, sample(other_names(source), 1_500), one)
        wrong = false_positives_bp(at, ordinary_names(min(each, 500)))
        print(f"| {threshold} | {_percent(first)} | {_percent(other)} | {_percent(wrong)} |")
    measured = speed(ListScreener(source), mixed_names(source, min(20_000, CACHED_NAMES)))
    print(f"\n{measured}")


if __name__ == "__main__":
    _report("--quick" in sys.argv)
