"""A bulk request to Elasticsearch is bounded, whatever has changed: it refuses a large one as a whole, for ever."""

from __future__ import annotations

import pytest

from projections.search.feed import in_parts


@pytest.mark.parametrize("limit", [1, 40, 100, 1_000_000])
def test_pairs_stay_together_and_parts_are_bounded(limit: int) -> None:
    operations = [part for n in range(50) for part in (b'{"index":%d}' % n, b"x" * (n % 7 * 10))]
    parts = list(in_parts(operations, limit))
    assert [each for part in parts for each in part] == operations
    assert all(len(part) % 2 == 0 and part for part in parts)
    assert all(sum(map(len, part)) + len(part) <= limit or len(part) == 2 for part in parts)
    assert (len(parts) == 1) == (limit == 1_000_000)


def test_nothing_is_no_request() -> None:
    assert list(in_parts([], 10)) == []
