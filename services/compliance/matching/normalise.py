"""A name, as a sequence of plain words: one spelling for what differs only in script, case, marks or form.

Idempotent: normalising what is normalised changes nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from unidecode import unidecode

from services.compliance.matching.words import LEGAL_FORMS, SPELLINGS

#: More words than this are no name; what follows is left out (the longest listed name has 24).
MAX_WORDS: Final = 32
_DOTTED: Final = re.compile(r"\b(?:[a-z]\.){2,}(?:[a-z]\b)?")
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
_MARKS: Final = str.maketrans("", "", "'`\"")
#: Abd al-Rahman, Abdul Rahman, Abdurrahman: "servant of" and one of the ninety-nine names, written in many ways.
_SERVANT: Final = re.compile(r"^abd(?:o?u[lrsn]|e[lrs]|a[lr]|i[lr]|u|)?$")
_SERVANT_OF: Final = re.compile(r"^abd(?:o?u[lrsn]|e[lrs]|a[lr]|i[lr]|u)([bcdfghjklmnpqrstvwxyz]?[a-z]{3,})$")
_ABDULLAH: Final = re.compile(r"^abd[aeou]*l+ah?$")


def normalise(name: str) -> tuple[str, ...]:
    """Words of a name in their order, in lower-case ASCII: ``"AL-ZAWAHIRI, Dr. Ayman"`` -> ``al zawahiri dr ayman``."""
    text = name if name.isascii() else unidecode(name)
    text = text.lower().replace("&", " and ").translate(_MARKS)
    if "." in text:
        text = _DOTTED.sub(_dotted, text)
    words: list[str] = []
    for word in _SEPARATORS.split(text):
        if not word:
            continue
        if word.startswith("abd"):
            words.extend(_servant(word))
            continue
        spelled = SPELLINGS.get(word, word)
        if spelled != "al" or not words or words[-1] != "abd":  # Abd al-Rahman -> abd rahman
            words.append(spelled)
    return tuple(words[:MAX_WORDS])


@lru_cache(maxsize=4096)
def _servant(word: str) -> tuple[str, ...]:
    if _ABDULLAH.match(word):
        return ("abdullah",)
    if _SERVANT.match(word):
        return ("abd",)
    if match := _SERVANT_OF.match(word):
        return ("abd", match[1])
    return (word,)


def _dotted(match: re.Match[str]) -> str:
    """``S.A.`` is a legal form and ``J.R.`` two initials; three letters and more are an abbreviation."""
    letters = match[0].replace(".", "")
    return f"{letters} " if len(letters) > 2 or letters in LEGAL_FORMS else f"{' '.join(letters)} "
