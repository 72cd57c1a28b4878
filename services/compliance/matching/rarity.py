"""How much a word says about who is meant: the rarer in the list, the more. In whole thousandths of a bit."""

from __future__ import annotations

from typing import Final

from services.compliance.matching.words import HONORIFICS, LEGAL_FORMS, PARTICLES

#: Share (in percent) of its rarity that a word of these kinds keeps.
LEGAL_FORM_PERCENT: Final = 6
HONORIFIC_PERCENT: Final = 8
PARTICLE_PERCENT: Final = 15
INITIAL_PERCENT: Final = 20
MILLIBITS: Final = 1000


def log2_millibits(numerator: int, denominator: int) -> int:
    """``floor(1000 * log2(numerator / denominator))`` in integers only, for ``numerator >= denominator > 0``.

    Float logarithms differ in the last digit between C libraries; a recorded decision must not.
    """
    if denominator <= 0 or numerator < denominator:
        raise ValueError(f"log2 of {numerator}/{denominator} is not in range")
    whole = (numerator // denominator).bit_length() - 1
    # Fixed point with 64 fractional bits: square and halve, one binary digit of the logarithm a time.
    x = (numerator << 64) // (denominator << whole)
    fraction = 0
    for _ in range(12):
        x = (x * x) >> 64
        fraction <<= 1
        if x >> 65:
            x >>= 1
            fraction |= 1
    return whole * MILLIBITS + (fraction * MILLIBITS >> 12)


def kind_percent(word: str) -> int:
    """Share of its rarity that a word keeps because of what kind of word it is."""
    if word in LEGAL_FORMS:
        return LEGAL_FORM_PERCENT
    if word in HONORIFICS:
        return HONORIFIC_PERCENT
    if word in PARTICLES:
        return PARTICLE_PERCENT
    if len(word) == 1:
        return INITIAL_PERCENT
    return 100


def word_weight(word: str, entries_with: int, entries: int) -> int:
    """Weight of a word in millibits (>= 1): ``log2((N + 1) / (n + 1))`` of the entries, cut by its kind."""
    return max(1, log2_millibits(entries + 1, entries_with + 1) * kind_percent(word) // 100)
