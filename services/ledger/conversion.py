"""Changing amounts from one currency into another, in integers: a rate is a ratio, and what is rounded is known.

A rate says what one *major* unit is worth: ``USD:9201/10000`` in euro means 1 USD = 0.9201 EUR. Amounts are minor
units, so the exponents of both currencies (ISO 4217 or registered) come into the ratio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.common.money import exponent

#: How a quotient that is no integer becomes one.
Rounding = Literal["half-even", "half-up", "down", "up", "floor", "ceiling"]


@dataclass(frozen=True, slots=True)
class Rate:
    """One major unit of ``base`` is worth ``numerator / denominator`` major units of ``quote``. Both are positive."""

    base: str
    quote: str
    numerator: int
    denominator: int

    def minor(self) -> tuple[int, int]:
        """The same for minor units, as numerator and denominator."""
        return (
            self.numerator * 10 ** exponent(self.quote),
            self.denominator * 10 ** exponent(self.base),
        )

    def convert(self, amount: int, rounding: Rounding = "half-even") -> int:
        """Minor units of ``quote`` for ``amount`` minor units of ``base`` (any sign)."""
        numerator, denominator = self.minor()
        return divide(amount * numerator, denominator, rounding)


def divide(dividend: int, divisor: int, rounding: Rounding) -> int:
    """``dividend / divisor`` as an integer. ``divisor`` is positive.

    ``half-even`` and ``half-up`` round to the nearest integer and differ on ties (to the even one; away from zero).
    ``down`` goes towards zero, ``up`` away from it, ``floor`` to minus and ``ceiling`` to plus infinity.
    """
    assert divisor > 0
    quotient, rest = divmod(dividend, divisor)  # rest is never negative
    if not rest:
        return quotient
    match rounding:
        case "floor":
            up = False
        case "ceiling":
            up = True
        case "down":
            up = dividend < 0
        case "up":
            up = dividend > 0
        case "half-even":
            up = 2 * rest > divisor or (2 * rest == divisor and quotient % 2 == 1)
        case "half-up":
            up = 2 * rest > divisor or (2 * rest == divisor and dividend > 0)
    return quotient + up
