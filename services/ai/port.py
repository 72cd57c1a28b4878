"""The port between the AI domain and whatever scores a payment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class ModelId(NamedTuple):
    """Which model scored: enough to find it again and to know that it is the same one."""

    name: str
    version: str
    sha256: str
    threshold_bp: int


class Score(NamedTuple):
    """``score_bp`` is a probability of fraud in basis points, 1..9999; ``reasons`` are (feature, its contribution to
    the log-odds in bp), the largest first."""

    model: ModelId
    score_bp: int
    reasons: tuple[tuple[str, int], ...]

    @property
    def denied(self) -> bool:
        """Whether the payment is refused."""
        return self.score_bp >= self.model.threshold_bp


class Scorer(Protocol):
    """A model as the domain sees it. The same model and features always give the same score, to the bit."""

    def score(self, features: Mapping[str, int]) -> Score:
        """Score a feature snapshot. A feature that is absent is not known."""
