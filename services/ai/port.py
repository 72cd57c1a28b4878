"""The port between the AI domain and a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Score:
    """``score_bp`` is a probability in basis points; reasons are (feature, contribution to the log-odds in bp)."""

    score_bp: int
    reasons: list[tuple[str, int]]


class Scorer(Protocol):
    """A model as the domain sees it."""

    model: str
    version: str
    sha256: str
    threshold_bp: int

    def score(self, features: Mapping[str, int]) -> Score:
        """Score a feature snapshot; the same snapshot gives the same score."""
