"""A scorer whose answer a test chooses."""

from __future__ import annotations

from collections.abc import Mapping

from services.ai.port import Score


class PlantedScorer:
    """Always the same score."""

    model = "planted"
    version = "1"
    sha256 = "0" * 64
    threshold_bp = 5_000

    def __init__(self, score_bp: int = 100) -> None:
        self.score_bp = score_bp

    def score(self, features: Mapping[str, int]) -> Score:
        """The planted score; the first feature is its reason."""
        return Score(self.score_bp, [(next(iter(features)), self.score_bp)])
