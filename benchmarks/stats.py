"""Numbers from samples: quantiles by nearest rank, so that every figure is a value that was really seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest sample that at least ``share`` (0..1) of ``ordered`` (ascending) do not exceed."""
    if not ordered:
        raise ValueError("a quantile of nothing")
    if not 0 <= share <= 1:
        raise ValueError(f"a share is from 0 to 1, not {share}")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Latencies:
    """What a load felt like; times in milliseconds."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    mean_ms: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latencies:
        """Of latencies in seconds, in any order; at least one."""
        ordered = sorted(seconds)
        p50, p90, p99 = (quantile(ordered, share) * 1e3 for share in (0.50, 0.90, 0.99))
        mean = math.fsum(ordered) / len(ordered) * 1e3
        return cls(len(ordered), p50, p90, p99, ordered[-1] * 1e3, mean)

    def record(self) -> dict[str, float]:
        """For JSON."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def ratio_of_slices(first: Sequence[float], second: Sequence[float]) -> float:
    """Mean of ``first`` over mean of ``second``: rates of slices that took turns, so that drift hits both."""
    if len(first) != len(second) or not first:
        raise ValueError(f"slices that took turns come in pairs: {len(first)} and {len(second)}")
    return math.fsum(first) / math.fsum(second)
