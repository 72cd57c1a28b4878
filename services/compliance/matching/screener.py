"""A list, ready to screen against: the threshold, what else is known of a party, and a bounded cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from services.compliance.lists.entries import SanctionsList
from services.compliance.matching.index import IndexedName, NameIndex
from services.compliance.matching.normalise import normalise
from services.compliance.matching.score import Likeness, likeness
from services.compliance.matching.vocabulary import FULL_BP
from services.compliance.screening import Feature, Match

#: Version of the algorithm. Any change that can change a score changes this.
MATCHER_VERSION: Final = "names/3"
#: What scores depend on beside our own code.
_STANDS_ON: Final = ("rapidfuzz", "jellyfish", "Unidecode")
#: The evidence for this figure is in docs/concepts/screening.md; ``benchmarks/screening.py`` measures it.
THRESHOLD_BP: Final = 8_300
MAX_MATCHES: Final = 10
COUNTRY_WEIGHT_BP: Final = 500
OTHER_COUNTRY_BP: Final = 4_000
WEAK_NAME_WEIGHT_BP: Final = 200
#: Bound of the cache of names; the oldest goes first.
CACHED_NAMES: Final = 32_768

_Near = tuple[tuple[IndexedName, Likeness], ...]


class ListScreener:
    """The :class:`~services.compliance.screening.Screener` over a loaded list."""

    def __init__(self, source: SanctionsList, threshold_bp: int = THRESHOLD_BP) -> None:
        if not 0 < threshold_bp <= FULL_BP:
            raise ValueError(f"threshold of {threshold_bp} bp is not within 1..10000")
        self.list_id = source.list_id
        self.list_version = source.version
        self.threshold_bp = threshold_bp
        self.matcher = "+".join(
            [MATCHER_VERSION, *(f"{each}-{version(each)}".lower() for each in _STANDS_ON)]
        )
        self.index = NameIndex(source)
        # An equal country lifts a score a little: what is this near is kept, so the cache needs no country.
        self._near_bp = FULL_BP * (threshold_bp - COUNTRY_WEIGHT_BP) // (FULL_BP - COUNTRY_WEIGHT_BP)
        self._cache: OrderedDict[tuple[str, ...], _Near] = OrderedDict()

    def screen(self, name: str, country: str | None) -> Sequence[Match]:
        """Entries at or above the threshold, best first; one match an entry, by its nearest name."""
        words = normalise(name)
        near = self._cache.get(words)
        if near is None:
            near = self._cache[words] = self._search(words)
            if len(self._cache) > CACHED_NAMES:
                self._cache.popitem(last=False)
        if not near:
            return ()
        best: dict[str, Match] = {}
        for listed, alike in near:
            match = _match(listed, alike, country)
            known = best.get(match.entry_id)
            if match.score_bp >= self.threshold_bp and (known is None or match.score_bp > known.score_bp):
                best[match.entry_id] = match
        return sorted(best.values(), key=lambda m: (-m.score_bp, len(m.entry_id), m.entry_id))[:MAX_MATCHES]

    def _search(self, words: tuple[str, ...]) -> _Near:
        query = self.index.query(words)
        compared = ((n, likeness(query, n)) for n in self.index.candidates(query, self._near_bp))
        return tuple((listed, alike) for listed, alike in compared if alike.score_bp >= self._near_bp)


def _match(listed: IndexedName, alike: Likeness, country: str | None) -> Match:
    """The explained score: name features share what the other features leave, by the weight of each side."""
    others: list[Feature] = []
    if country and listed.entry.countries:
        same = country.upper() in listed.entry.countries
        others.append(Feature("country", FULL_BP if same else OTHER_COUNTRY_BP, COUNTRY_WEIGHT_BP))
    if listed.name.strength == "weak":
        others.append(Feature("strong-name", 0, WEAK_NAME_WEIGHT_BP))
    left = FULL_BP - sum(f.weight_bp for f in others)
    party_weight = left * alike.party // (alike.party + alike.listed)
    features = (
        Feature("party-name-covered", FULL_BP * alike.shared // alike.party, party_weight),
        Feature("listed-name-covered", FULL_BP * alike.shared // alike.listed, left - party_weight),
        *others,
    )
    entry = listed.entry
    score = sum(f.value_bp * f.weight_bp for f in features) // FULL_BP
    return Match(entry.id, entry.name, listed.name.text, entry.program, score, features)
