"""Arithmetic of features on integers only: a feature is the same on every machine, to the bit."""

from __future__ import annotations

from typing import Final

#: Amounts and sums stop here: what a snapshot's JSON and a model's 64-bit input hold. Beyond it they say "huge" alike.
SATURATED: Final = 2**62
#: Logarithms have eight fractional bits: 256 is one doubling.
LOG_ONE: Final = 256


def saturate(value: int) -> int:
    """``value``, not above :data:`SATURATED`."""
    return min(SATURATED, value)


def log2_q8(value: int) -> int:
    """``256 * log2(value)`` by linear interpolation between powers of two, at most 22 too low; 0 for ``value <= 1``.

    Monotone, which is what a comparison of amounts needs.
    """
    if value <= 1:
        return 0
    whole = value.bit_length() - 1
    fraction = (value << 8 >> whole) & 0xFF
    return whole * LOG_ONE + fraction


def ratio_bp(value: int, base: int, most: int) -> int:
    """``value / base`` in basis points, at most ``most``; a base below 1 counts as 1."""
    return min(most, value * 10_000 // max(1, base))
