"""The words of a list, and for any word the listed words that it resembles.

Three roads lead from a word to candidates, so that each catches what another misses: the same after one letter
is left out of either (a typing error), the same sound (metaphone and nysiis: another transliteration), and the same
beginning or end (two errors in a long word). Candidates are then compared letter by letter, so a road costs recall
when it is missing and never precision when it is there.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from jellyfish import metaphone, nysiis
from rapidfuzz.distance import OSA

FULL_BP: Final = 10_000
#: Words shorter than this resemble only themselves: "Ali" and "Eli" are two names.
MIN_FUZZY_CHARS: Final = 4
#: ... but a word one letter shorter may be a longer one that lost a letter: "Yag" for "Yang".
MIN_SHORTENED_CHARS: Final = 3
#: From this length on a word may be found by its first or last letters.
MIN_AFFIX_CHARS: Final = 7
AFFIX_CHARS: Final = 4
#: Shorter keys sound like too much: nysiis writes every vowel as A, so it needs a letter more.
MIN_METAPHONE_CHARS: Final = 3
MIN_NYSIIS_CHARS: Final = 4
#: What edits cost, in bp of one letter of the longer word. One error in a word is usual, two are not. A wrong letter
#: makes another name more often ("Hasan", "Haman") than one left out or added, and that more often than two swapped.
FIRST_EDIT_BP: Final = 7_500
FIRST_GAP_BP: Final = 6_800
FIRST_SWAP_BP: Final = 6_000
NEXT_EDIT_BP: Final = 9_500
#: Below this two words are different words; when they sound alike, below the second.
MIN_SIMILARITY_BP: Final = 7_000
MIN_SOUND_SIMILARITY_BP: Final = 5_000
#: Two spellings of one sound are drawn towards this.
SOUND_BP: Final = 9_200
#: A word that the list has as it is, is less likely to be a misspelling of another.
KNOWN_WORD_BP: Final = 500
KNOWN_SOUND_BP: Final = 1_000
#: Bound of the cache of answers; the oldest goes first.
CACHED_WORDS: Final = 16_384

Similar = tuple[tuple[int, int], ...]


class Vocabulary:
    """Words with ids 0..n-1 in the order of ``words``. ``spellings`` lead to one of them: ``{"company": "co"}``."""

    def __init__(self, words: Iterable[str], spellings: Mapping[str, str] | None = None) -> None:
        self.words: tuple[str, ...] = tuple(words)
        self.ids: dict[str, int] = {word: i for i, word in enumerate(self.words)}
        assert len(self.ids) == len(self.words), "a word is there twice"
        self._spelled = list(self.words)
        self._meant = list(range(len(self.words)))
        for spelling, word in sorted((spellings or {}).items()):
            if word in self.ids and spelling not in self.ids:
                self._spelled.append(spelling)
                self._meant.append(self.ids[word])
        self._sounds = [sounds(word) for word in self._spelled]
        self._by_deletion, self._by_sound, self._by_affix = self._roads()
        self._cache: OrderedDict[str, Similar] = OrderedDict()

    def similar(self, word: str) -> Similar:
        """``(word id, similarity in bp)`` of every listed word that ``word`` resembles, itself included."""
        found = self._cache.get(word)
        if found is None:
            found = self._cache[word] = tuple(self._search(word).items())
            if len(self._cache) > CACHED_WORDS:
                self._cache.popitem(last=False)
        return found

    def _roads(self) -> tuple[dict[str, tuple[int, ...]], ...]:
        deletion: defaultdict[str, list[int]] = defaultdict(list)
        sound: defaultdict[str, list[int]] = defaultdict(list)
        affix: defaultdict[str, list[int]] = defaultdict(list)
        for i, word in enumerate(self._spelled):
            for key in self._sounds[i]:
                sound[key].append(i)
            if len(word) >= MIN_FUZZY_CHARS and word.isalpha():
                for key in set(_deletions(word)):
                    deletion[key].append(i)
            if len(word) >= MIN_AFFIX_CHARS:
                for key in _affixes(word):
                    affix[key].append(i)
        return tuple({key: tuple(ids) for key, ids in road.items()} for road in (deletion, sound, affix))

    def _search(self, word: str) -> dict[int, int]:
        same = self.ids.get(word)
        out = {} if same is None else {same: FULL_BP}
        if len(word) < MIN_SHORTENED_CHARS or not word.isalpha():
            return out
        near: set[int] = set(self._by_deletion.get(word, ()))
        own_sounds: tuple[str, ...] = ()
        if len(word) >= MIN_FUZZY_CHARS:
            for key in _deletions(word):
                near.update(self._by_deletion.get(key, ()))
                if (shorter := self.ids.get(key)) is not None:
                    near.add(shorter)
            own_sounds = sounds(word)
            for key in own_sounds:
                near.update(self._by_sound.get(key, ()))
        if len(word) >= MIN_AFFIX_CHARS:
            for key in _affixes(word):
                near.update(self._by_affix.get(key, ()))
        for i in sorted(near):
            meant = self._meant[i]
            if meant != same and (similarity := self._compare(word, own_sounds, i, same is not None)):
                out[meant] = max(similarity, out.get(meant, 0))
        return out

    def _compare(self, word: str, own_sounds: tuple[str, ...], other: int, known: bool) -> int:
        edits = likeness_bp(word, self._spelled[other])
        if edits >= MIN_SOUND_SIMILARITY_BP and any(key in self._sounds[other] for key in own_sounds):
            if known:
                edits -= KNOWN_SOUND_BP
            return max(edits, (edits + SOUND_BP) // 2)
        if known:
            edits -= KNOWN_WORD_BP
        return edits if edits >= MIN_SIMILARITY_BP else 0


def sounds(word: str) -> tuple[str, ...]:
    """Phonetic keys of a word: none for one with digits or too short to have a sound of its own."""
    if len(word) < MIN_FUZZY_CHARS or not word.isalpha():
        return ()
    keys = (("m", metaphone(word), MIN_METAPHONE_CHARS), ("n", nysiis(word), MIN_NYSIIS_CHARS))
    return tuple(kind + key for kind, key, least in keys if len(key) >= least)


def likeness_bp(a: str, b: str) -> int:
    """Similarity of two words by edits (a swap of neighbours is one), 0..10000."""
    longest = max(len(a), len(b))
    most = longest * (FULL_BP - MIN_SOUND_SIMILARITY_BP) // FIRST_EDIT_BP
    distance = OSA.distance(a, b, score_cutoff=most)
    if distance == 0:
        return FULL_BP
    if distance > most:
        return 0
    first = FIRST_EDIT_BP
    if len(a) != len(b):
        first = FIRST_GAP_BP
    elif distance == 1 and sorted(a) == sorted(b):
        first = FIRST_SWAP_BP
    return max(0, FULL_BP - (first + NEXT_EDIT_BP * (distance - 1)) // longest)


def _deletions(word: str) -> Iterator[str]:
    for i in range(len(word)):
        yield word[:i] + word[i + 1 :]


def _affixes(word: str) -> tuple[str, str]:
    return "^" + word[:AFFIX_CHARS], word[-AFFIX_CHARS:] + "$"
