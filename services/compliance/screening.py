"""The port between the compliance domain and whatever compares names with a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Feature(NamedTuple):
    """One part of an explained score: ``value_bp`` 0..10000, and its share of the score."""

    name: str
    value_bp: int
    weight_bp: int


@dataclass(frozen=True, slots=True)
class Match:
    """A list entry that a name resembles. ``matched_name`` is the name of the entry that was nearest.

    ``score_bp`` is ``sum(value * weight) // 10000`` over the features, whose weights sum to 10000.
    """

    entry_id: str
    entry_name: str
    matched_name: str
    program: str
    score_bp: int
    features: tuple[Feature, ...]


class Screener(Protocol):
    """Compares names with one version of one list. Pure: the same name and country always give the same matches.

    ``list_version`` identifies the content of the list, ``matcher`` the algorithm with the versions of what it
    stands on, so that a recorded screening can be explained and repeated years later.
    """

    @property
    def list_id(self) -> str:
        """Which list, e.g. ``"ofac-sdn"``."""

    @property
    def list_version(self) -> str:
        """SHA-256 (hex) over the list's content."""

    @property
    def matcher(self) -> str:
        """Name and version of the algorithm."""

    @property
    def threshold_bp(self) -> int:
        """From this score on a match is a hit."""

    def screen(self, name: str, country: str | None) -> Sequence[Match]:
        """Entries at or above the threshold, best first, a bounded number of them.

        ``country`` is ISO 3166-1 alpha-2, or ``None`` when it is not known.
        """
