"""How alike two names are, and why: words are paired one to one, and what is paired is weighed against what is not.

The score is a Dice coefficient over the words' rarity. All arithmetic is on integers, so a score is the same on
every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from services.compliance.matching.index import MISSING_LEAST_PERCENT, IndexedName, Query
from services.compliance.matching.vocabulary import FULL_BP

#: An initial that fits a word says half of what the word would.
INITIAL_BP: Final = 5_000
#: When a family and a given name agree at least so much, other words of a person's name may be missing (a middle name, a
#: second family name, a father's name). They then count for less, the less the more the shared words say: two common
#: names (12 bits) fit thousands of people, two rare ones (20 bits) hardly a second.
SURE_BP: Final = 8_500
MISSING_MOST_PERCENT: Final = 90
COMMON_MILLIBITS: Final = 12_000
RARE_MILLIBITS: Final = 20_000


class Likeness(NamedTuple):
    """What two names share: weights in millibits, of the party's name, of the listed one, and of both."""

    shared: int
    party: int
    listed: int

    @property
    def score_bp(self) -> int:
        """Dice coefficient, 0..10000."""
        return 2 * FULL_BP * self.shared // (self.party + self.listed)


class _Pair(NamedTuple):
    """Words ``i..i_end`` of the query stand for words ``j..j_end`` of the listed name."""

    gain: int
    similarity: int
    i: int
    i_end: int
    j: int
    j_end: int


@dataclass(slots=True)
class _Alignment:
    """Which words are still free on either side, and what the taken ones share."""

    free_party: list[bool]
    free_listed: list[bool]
    whole: int = 0
    shared: int = 0
    family: bool = False
    given: bool = False

    def take(self, pair: _Pair, weight: int) -> None:
        self.free_party[pair.i : pair.i_end] = [False] * (pair.i_end - pair.i)
        self.free_listed[pair.j : pair.j_end] = [False] * (pair.j_end - pair.j)
        self.whole += weight
        self.shared += pair.similarity * weight // FULL_BP


def likeness(query: Query, name: IndexedName) -> Likeness:
    """Compare a query with one listed name."""
    found = _align(query, name)
    rest_party = sum(w for w, free in zip(query.weights, found.free_party, strict=True) if free)
    rest_listed = sum(w for w, free in zip(name.weights, found.free_listed, strict=True) if free)
    percent = _missing_percent(found.shared) if found.family and found.given else 100
    return Likeness(
        found.shared,
        max(1, found.whole + rest_party * percent // 100),
        max(1, found.whole + rest_listed * percent // 100),
    )


def _missing_percent(shared: int) -> int:
    fall = MISSING_MOST_PERCENT - MISSING_LEAST_PERCENT
    percent = MISSING_MOST_PERCENT - fall * (shared - COMMON_MILLIBITS) // (RARE_MILLIBITS - COMMON_MILLIBITS)
    return max(MISSING_LEAST_PERCENT, min(MISSING_MOST_PERCENT, percent))


def _pairs(query: Query, name: IndexedName) -> list[_Pair]:
    """Every way to pair words, the most telling first. Ties fall to the later words, in a fixed order."""
    pairs: list[_Pair] = []
    weights = name.weights
    for width, found in ((1, query.similar), (2, query.pairs)):
        for i, similar in enumerate(found):
            if similar:
                for j, word in enumerate(name.words):
                    if s := similar.get(word):
                        pairs.append(_Pair(s * weights[j], s, i, i + width, j, j + 1))
    for i, compounds in enumerate(query.compounds):
        if span := compounds.get(name.number):
            pairs.append(_Pair(FULL_BP * sum(weights[span[0] : span[1]]), FULL_BP, i, i + 1, *span))
    pairs.sort(reverse=True)
    return pairs


def _align(query: Query, name: IndexedName) -> _Alignment:
    found = _Alignment([True] * len(query.words), [True] * len(name.words))
    free_party, free_listed = found.free_party, found.free_listed
    for pair in _pairs(query, name):
        if all(free_party[pair.i : pair.i_end]) and all(free_listed[pair.j : pair.j_end]):
            found.take(pair, sum(name.weights[pair.j : pair.j_end]))
            if pair.similarity >= SURE_BP:
                found.family |= pair.j < name.family
                found.given |= 0 < name.family < pair.j_end
    for i, word in enumerate(query.words):
        if free_party[i]:
            for j, text in enumerate(name.texts):
                if free_listed[j] and _is_initial(word, text):
                    found.take(_Pair(0, INITIAL_BP, i, i + 1, j, j + 1), name.weights[j])
                    break
    return found


def _is_initial(a: str, b: str) -> bool:
    return (len(a) == 1) != (len(b) == 1) and a[0] == b[0] and a[0].isalpha()
