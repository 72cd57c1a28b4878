"""Quantiles are values that were seen, and slices that took turns give one ratio."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stats import Latencies, quantile, ratio_of_slices

_samples = st.lists(st.floats(min_value=0, max_value=1e6), min_size=1, max_size=300)


@given(_samples, st.floats(min_value=0, max_value=1))
def test_a_quantile_is_the_smallest_sample_that_covers_its_share(samples: list[float], share: float) -> None:
    ordered = sorted(samples)
    value = quantile(ordered, share)
    assert value in ordered
    # An integer comparison would be exact; the tolerance is that of share * n in floating point.
    assert sum(s <= value for s in ordered) >= share * len(ordered) - 1e-6
    below = [s for s in ordered if s < value]
    assert not below or len(below) < share * len(ordered) + 1e-6


def test_the_usual_quantiles_of_a_hundred() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert [quantile(ordered, s) for s in (0.0, 0.5, 0.9, 0.99, 1.0)] == [1, 50, 90, 99, 100]


@pytest.mark.parametrize(("ordered", "share"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1)])
def test_no_quantile_of_nothing_and_none_outside_of_zero_to_one(ordered: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"quantile of nothing|a share is"):
        quantile(ordered, share)


def test_latencies_are_in_milliseconds_whatever_their_order() -> None:
    seconds = [n / 1000 for n in range(1, 201)]
    random.Random(1).shuffle(seconds)
    found = Latencies.of(seconds)
    assert (found.count, found.p50_ms, found.p99_ms, found.max_ms) == (200, 100, 198, 200)
    assert found.mean_ms == pytest.approx(statistics.fmean(seconds) * 1e3)


def test_one_slow_request_in_a_hundred_is_not_hidden_by_the_maximum_alone() -> None:
    found = Latencies.of([0.001] * 98 + [5.0, 5.0])
    assert found.p90_ms == 1
    assert found.p99_ms == 5_000


def test_slices_in_turn_give_the_ratio_of_their_means() -> None:
    assert ratio_of_slices([90, 100, 110], [100, 100, 100]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="come in pairs"):
        ratio_of_slices([1.0], [1.0, 2.0])
