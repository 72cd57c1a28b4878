"""A projection's lag is told for each event: from its own time to the first sample that has it."""

from __future__ import annotations

import pytest

from benchmarks.views import lag


def test_each_event_is_charged_from_its_own_time() -> None:
    seen = {0: ([10, 20], [100.0, 101.0]), 1: ([5], [100.5])}
    events = [(0, 9, 99.9), (0, 10, 99.9), (0, 11, 99.9), (1, 5, 100.4)]
    found, unseen = lag(lambda shard: seen[shard], events)
    assert unseen == 0
    assert found.count == 4
    assert found.max_ms == pytest.approx(1_100), "position 11 is only in the sample of 101.0"
    assert found.p50_ms == pytest.approx(100)


def test_an_event_that_no_sample_has_is_told() -> None:
    _, unseen = lag(lambda _: ([10], [1.0]), [(0, 10, 0.5), (0, 11, 0.5)])
    assert unseen == 1
