"""The names of a list, found by their words: which names are worth a comparison with a query.

A name can only reach the threshold when enough of the query's weight is matched, so only the rarer words of the query
open candidates ("prefix filtering", Chaudhuri et al., ICDE 2006); its common words then add to what is open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from services.compliance.lists.entries import Entry, ListName, SanctionsList
from services.compliance.matching.normalise import normalise
from services.compliance.matching.rarity import kind_percent, word_weight
from services.compliance.matching.vocabulary import FULL_BP, Vocabulary
from services.compliance.matching.words import SPELLINGS

#: At most so many names are compared in full for one query, those with the highest bound first.
MAX_COMPARED: Final = 64
#: Share of a query's weight that a name must be able to match to be compared.
LEAST_SHARE_BP: Final = 5_000
#: Neighbours written as one word ("alghamdi", "binalwalid") are looked up from this length on.
MIN_JOINED_CHARS: Final = 4
MAX_JOINED_WORDS: Final = 3
#: Words that are missing on one side count for at least this share (see ``score``), which bounds a score from above.
MISSING_LEAST_PERCENT: Final = 30

#: A word that the list has not is taken for a misspelt "company" from this length on; "Zand" is no "and".
MIN_MISSPELT_CHARS: Final = 6

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class IndexedName:
    """One name of one entry, ready to compare. ``family`` is how many of its words, from the first, are the
    family name (0 when the list does not say)."""

    number: int
    entry: Entry
    name: ListName
    words: tuple[int, ...]
    texts: tuple[str, ...]
    weights: tuple[int, ...]
    total: int
    family: int


@dataclass(frozen=True, slots=True)
class Query:
    """A party's name, with what each of its words resembles.

    ``pairs[i]`` is what words ``i`` and ``i + 1`` resemble as one word; ``compounds[i]`` are the listed names that
    have word ``i`` as several words, with the span of those.
    """

    words: tuple[str, ...]
    weights: tuple[int, ...]
    total: int
    similar: tuple[dict[int, int], ...]
    pairs: tuple[dict[int, int], ...]
    compounds: tuple[dict[int, Span], ...]


class NameIndex:
    """All names of a list. Immutable after construction, except for the bounded cache of its vocabulary."""

    def __init__(self, source: SanctionsList) -> None:
        drafts = list(_drafts(source.entries))
        entries_with: defaultdict[str, set[str]] = defaultdict(set)
        for entry, _, texts, _ in drafts:
            for text in texts:
                entries_with[text].add(entry.id)
        self.entries = len(source.entries)
        self.vocabulary = Vocabulary(sorted(entries_with), SPELLINGS)
        self._weights = tuple(
            word_weight(w, len(entries_with[w]), self.entries) for w in self.vocabulary.words
        )
        self._light = frozenset(i for i, w in enumerate(self.vocabulary.words) if kind_percent(w) < 100)
        self.names: list[IndexedName] = []
        postings: list[list[int]] = [[] for _ in self.vocabulary.words]
        compounds: defaultdict[str, dict[int, Span]] = defaultdict(dict)
        same_words: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, (entry, name, texts, family) in enumerate(drafts):
            ids = tuple(self.vocabulary.ids[text] for text in texts)
            weights = tuple(self._weights[i] for i in ids)
            self.names.append(IndexedName(number, entry, name, ids, texts, weights, sum(weights), family))
            same_words[tuple(sorted(texts))].append(number)
            for i in set(ids):
                postings[i].append(number)
            for text, span in _joined(texts):
                compounds[text].setdefault(number, span)
        self._postings = tuple(tuple(numbers) for numbers in postings)
        self._compounds = dict(compounds)
        self._same_words = {words: tuple(numbers) for words, numbers in same_words.items()}

    def query(self, words: tuple[str, ...]) -> Query:
        """Look up each word, and each two neighbours as one word."""
        similar = self.vocabulary.similar
        weights = tuple(self._weight(word) for word in words)
        pairs = tuple(dict(similar(a + b)) if _joinable(a + b, 2) else {} for a, b in pairwise(words))
        compounds = tuple(self._compounds.get(w, {}) for w in words)
        return Query(words, weights, sum(weights), tuple(dict(similar(w)) for w in words), pairs, compounds)

    def candidates(self, query: Query, least_bp: int) -> list[IndexedName]:
        """Names that may score ``least_bp``: those of the very same words, then a bounded number by their bounds.

        The same words come first because bounds are generous: a common word that a name has twice
        ("Muhammad al-Muhammad") raises the bound of every name that has it once.
        """
        bound: dict[int, int] = {}
        rest = query.total
        needed = query.total * LEAST_SHARE_BP // FULL_BP
        for i in sorted(range(len(query.words)), key=lambda i: (-query.weights[i], query.words[i])):
            reached = self._reached(query, i)
            if rest >= needed:
                for number, gain in reached.items():
                    bound[number] = bound.get(number, 0) + gain
            else:
                for number in bound.keys() & reached.keys():
                    bound[number] += reached[number]
            rest -= query.weights[i]
        names, best = self.names, []
        for number, shared in bound.items():
            both = max(query.total + names[number].total, 2 * shared)
            kindest = 2 * shared + (both - 2 * shared) * MISSING_LEAST_PERCENT // 100
            if 2 * FULL_BP * shared >= least_bp * kindest:
                best.append((-FULL_BP * 2 * shared // both, number))
        best.sort()
        same = self._same_words.get(tuple(sorted(query.words)), ())
        others = (number for _, number in best[:MAX_COMPARED] if number not in same)
        return [names[number] for number in (*same, *others)]

    def _reached(self, query: Query, i: int) -> dict[int, int]:
        """Most weight that word ``i`` of the query (alone or with a neighbour) can match, for each name."""
        reached: dict[int, int] = {}
        weights, postings = self._weights, self._postings
        for found in (query.similar[i], *query.pairs[max(0, i - 1) : i + 1]):
            for word, similarity in found.items():
                gain = weights[word] * similarity // FULL_BP
                for number in postings[word]:
                    if gain > reached.get(number, 0):
                        reached[number] = gain
        for number, (at, end) in query.compounds[i].items():
            reached[number] = max(reached.get(number, 0), sum(self.names[number].weights[at:end]))
        return reached

    def _weight(self, word: str) -> int:
        """Rarity of a query's word. One that the list has not is as rare as can be, unless it is a misspelt
        "company" or "the": what resembles a word that says little says little."""
        known = self.vocabulary.ids.get(word)
        if known is not None:
            return self._weights[known]
        own = word_weight(word, 0, self.entries)
        if len(word) < MIN_MISSPELT_CHARS:
            return own
        return min(
            (self._weights[i] for i, _ in self.vocabulary.similar(word) if i in self._light), default=own
        )


def _drafts(entries: Iterable[Entry]) -> Iterator[tuple[Entry, ListName, tuple[str, ...], int]]:
    for entry in entries:
        for name in entry.names:
            for text in _variants(name.text):
                if words := normalise(text):
                    yield entry, name, words, _family_words(entry, text)


def _variants(text: str) -> Iterator[str]:
    """A name with its bracketed part and, when there is one, without: "FOUNDATION (FIF)" answers to both."""
    yield text
    head, bracket, rest = text.partition("(")
    if bracket and ")" in rest:
        without = f"{head} {rest.partition(')')[2]}"
        if len(normalise(without)) > 1:
            yield without


def _family_words(entry: Entry, text: str) -> int:
    family, comma, _ = text.partition(",")
    return len(normalise(family)) if comma and entry.type == "individual" else 0


def _joined(texts: tuple[str, ...]) -> Iterator[tuple[str, Span]]:
    """Neighbours written as one word, with the first of them and the one after the last."""
    for at in range(len(texts)):
        for end in range(at + 2, min(at + MAX_JOINED_WORDS, len(texts)) + 1):
            text = "".join(texts[at:end])
            if _joinable(text, end - at):
                yield text, (at, end)
                if text.startswith("al"):  # the word "el" was read as "al"; inside a word it was not
                    yield "el" + text[2:], (at, end)


def _joinable(text: str, words: int) -> bool:
    return len(text) >= MIN_JOINED_CHARS or len(text) == words
