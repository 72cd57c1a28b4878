"""The table and the JSON say the same, hold figures against what is wanted, and never hide what is wrong."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from benchmarks import report
from benchmarks.rows import EDGE, ENGINE, GROUPS, QUICK, ROWS, Outcome


def recorded(problems: list[str]) -> dict[str, object]:
    found = Outcome(
        {"topic": 50_000.0, "limit-copy": 200_000.0, "one-p50": 9.0, "hot": 0.99},
        {"cpu": {"one": {"gateway": 40.0, "client": 5.0, "all": 45.0}}, "checks": {"engine": {}}},
        problems,
    )
    report.complete(found)
    return report.record(
        found, {"cores": 2, "load_before": [0.1, 0.1, 0.1]}, QUICK, ["an installation of its own"]
    )


def shown(data: dict[str, object]) -> str:
    out = io.StringIO()
    report.show(Console(file=out, width=160, highlight=False), data)
    return out.getvalue()


def test_ratios_are_of_the_limit_of_the_same_run() -> None:
    figures = recorded([])["figures"]
    assert isinstance(figures, dict)
    assert figures["topic"]["ratio"] == 0.25
    assert figures["topic-of-copy"]["value"] == 0.25
    assert "ratio" not in figures["hot"]
    assert json.loads(json.dumps(figures)) == figures


@pytest.mark.parametrize(
    ("key", "value", "reached"),
    [("topic", 40_000, True), ("topic", 39_999, False), ("one-p50", 8, True), ("one-p50", 8.01, False)],
)
def test_more_is_better_for_rates_and_less_for_times(key: str, value: float, reached: bool) -> None:
    assert next(r for r in ROWS if r.key == key).reached(value) is reached


def test_the_table_shows_what_was_not_reached_and_who_used_the_processor() -> None:
    text = shown(recorded([]))
    lines = {line.split("  ")[0].strip(): line for line in text.splitlines()}
    assert " yes" in lines["commands in Kafka to published events"]
    assert " no" in lines["one client, one after another, p50"]
    assert "client" in text
    assert "Nothing lost" in text


def test_a_machine_that_had_other_work_is_told() -> None:
    data = recorded([])
    assert "busy" not in shown(data)
    data["machine"] = {"cores": 2, "load_before": [1.5, 1.0, 1.0]}
    assert "The machine was busy before the run began (load 1.5)" in shown(data)


def test_what_is_wrong_takes_the_place_of_the_good_news() -> None:
    text = shown(recorded(["1 acknowledged transfers are not in the store"]))
    assert "WRONG 1 acknowledged transfers" in text
    assert "Nothing lost" not in text


def test_every_row_can_be_asked_for_and_is_measured_somewhere() -> None:
    assert {row.group for row in ROWS} <= set(GROUPS)
    assert set(GROUPS) == ENGINE | EDGE | {"limits"}
    assert len({row.key for row in ROWS}) == len(ROWS)
    assert all(row.of is None or row.of in {r.key for r in ROWS} for row in ROWS)
