"""Soaks: chosen only when asked for, at the promised figure, and what they print is kept."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.kit.soak import FIGURES, Figure, Printed, figures


@figures("R2")
def test_each_size_has_its_figure(figure: Figure, request: pytest.FixtureRequest) -> None:
    soaks = request.node.get_closest_marker("soak") is not None
    assert figure["keys"] == FIGURES["R2"]["keys"][soaks]
    assert soaks == ("soak" in request.node.callspec.id)


def test_the_suite_never_counts_further_than_a_soak() -> None:
    assert all(suite <= soak for figure in FIGURES.values() for suite, soak in figure.values())


def test_what_a_soak_printed_last_is_kept_and_a_test_of_the_suite_keeps_nothing(tmp_path: Path) -> None:
    Printed("tests/a.py::test_b[suite]", keep=False, folder=tmp_path)("R2", keys=1)
    assert list(tmp_path.iterdir()) == []
    for keys in (5, 6):
        Printed("tests/a.py::test_b[soak]", keep=True, folder=tmp_path)("R2", keys=keys)
    Printed("tests/a.py::test_c", keep=True, folder=tmp_path)("R2", kills=3)
    kept = orjson.loads((tmp_path / "R2.json").read_bytes())
    assert kept["tests/a.py::test_b[soak]"]["printed"] == {"keys": 6}
    assert kept["tests/a.py::test_c"]["printed"] == {"kills": 3}
