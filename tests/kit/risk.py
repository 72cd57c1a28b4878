"""Ports of the risk services whose answers a test chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.ai.port import ModelId, Score
from services.compliance.screening import Feature, Match

PLANTED_MODEL = ModelId("planted", "1", "0" * 64, 5_000)


class PlantedScorer:
    """Always the same score; the first feature is its reason."""

    def __init__(self, score_bp: int = 100) -> None:
        self.score_bp = score_bp
        self.asked: list[Mapping[str, int]] = []

    def score(self, features: Mapping[str, int]) -> Score:
        """The planted score."""
        self.asked.append(features)
        return Score(PLANTED_MODEL, self.score_bp, ((next(iter(features)), self.score_bp),))


class PlantedScreener:
    """Hits for the names it is given (name -> entry id and the entry's name), and for no others."""

    list_id = "planted"
    list_version = "1" * 64
    matcher = "planted/1"
    threshold_bp = 8_000

    def __init__(self, hits: Mapping[str, tuple[str, str]] | None = None) -> None:
        self.hits = dict(hits or {})
        self.asked: list[tuple[str, str | None]] = []

    def screen(self, name: str, country: str | None) -> Sequence[Match]:
        """One full match for a planted name."""
        self.asked.append((name, country))
        if name not in self.hits:
            return ()
        entry_id, entry_name = self.hits[name]
        features = (Feature("party-name-covered", 9_000, 5_000), Feature("listed-name-covered", 9_000, 5_000))
        return (Match(entry_id, entry_name, entry_name, "SDGT", 9_000, features),)
