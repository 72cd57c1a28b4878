"""How a listed name arrives in a payment: in another order, with an error, joined, shortened, in another spelling.

Every alteration takes the name, whether it is a person's, and a random source; it returns what a payer might type.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from typing import Final

Alteration = Callable[[str, bool, random.Random], str]

#: Spellings that differ between systems of transliteration; the first found in a word is replaced.
_SPELLINGS: Final = (
    ("kh", "h"), ("gh", "g"), ("sh", "ch"), ("ou", "u"), ("oo", "u"), ("ee", "i"), ("ay", "ei"), ("ai", "ay"), ("q", "k"),
    ("ph", "f"), ("w", "v"), ("j", "dj"), ("y", "i"), ("z", "s"), ("x", "ks"), ("c", "k"), ("u", "ou"), ("e", "i"), ("o", "u"),
)  # fmt: skip
_MIN_WORD: Final = 4


def untouched(name: str, _: bool, __: random.Random) -> str:
    """As the list prints it."""
    return name


def natural(name: str, person: bool, _: random.Random) -> str:
    """``SURNAME, Given`` as ``Given SURNAME``."""
    family, comma, given = name.partition(",")
    return f"{given.strip()} {family.strip()}" if person and comma else name


def shuffled(name: str, _: bool, draw: random.Random) -> str:
    """Words in any order."""
    words = name.replace(",", " ").split()
    draw.shuffle(words)
    return " ".join(words)


def one_error(name: str, person: bool, draw: random.Random) -> str:
    """A letter left out, added, wrong or swapped with its neighbour, in one word of four letters or more."""
    return _with_errors(natural(name, person, draw), 1, draw)


def two_errors(name: str, person: bool, draw: random.Random) -> str:
    """The same in two words, when the name has so many."""
    return _with_errors(natural(name, person, draw), 2, draw)


def shuffled_error(name: str, person: bool, draw: random.Random) -> str:
    """Words in any order and one of them with an error."""
    return _with_errors(shuffled(name, person, draw), 1, draw)


def without_marks(name: str, person: bool, draw: random.Random) -> str:
    """Hyphens, apostrophes and full stops left out, which joins words."""
    return "".join(c for c in natural(name, person, draw) if c.isalnum() or c == " ")


def respelled(name: str, person: bool, draw: random.Random) -> str:
    """Another transliteration of up to two words of a person's name."""
    words = natural(name, person, draw).lower().split()
    if not person:
        return " ".join(words)
    places = [i for i, word in enumerate(words) if len(word) >= _MIN_WORD]
    draw.shuffle(places)
    for i in places[:2]:
        for old, new in _SPELLINGS:
            if old in words[i][1:]:
                words[i] = words[i][0] + words[i][1:].replace(old, new, 1)
                break
    return " ".join(words)


def shortened(name: str, person: bool, draw: random.Random) -> str:
    """First and last word of a person's name only."""
    words = natural(name, person, draw).split()
    return f"{words[0]} {words[-1]}" if person and len(words) > 2 else " ".join(words)


#: In the order of the table in the documentation.
ALTERATIONS: Final[dict[str, Alteration]] = {
    "as listed": untouched,
    "given name first": natural,
    "words in any order": shuffled,
    "one error": one_error,
    "any order, one error": shuffled_error,
    "two errors": two_errors,
    "marks left out": without_marks,
    "respelled": respelled,
    "first and last word only": shortened,
}


def _with_errors(name: str, errors: int, draw: random.Random) -> str:
    words = name.split()
    places = [i for i, word in enumerate(words) if len(word) >= _MIN_WORD and word.isalpha()]
    draw.shuffle(places)
    for i in places[:errors]:
        words[i] = _misspell(words[i].lower(), draw)
    return " ".join(words)


def _misspell(word: str, draw: random.Random) -> str:
    at = draw.randrange(1, len(word))
    letter = draw.choice(string.ascii_lowercase)
    return draw.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + letter + word[at:],
            word[:at] + letter + word[at + 1 :],
            word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :],
        )
    )
