"""Changing amounts from one currency into another, in integers: a rate is a ratio, and what is rounded is known.

A rate says what one *major* unit is worth: 9201/10000 between USD and EUR means 1 USD = 0.9201 EUR. Amounts are minor
units, so the decimal places of both currencies (ISO 4217 or registered) come into the ratio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from schemas.common.money import exponent
from schemas.ledger.currencies import Rounding


class Amounts(NamedTuple):
    """What an amount comes to: rounded as asked, rounded half to even, and what that left of a minor unit."""

    given: int
    fair: int
    remainder: int
    denominator: int


@dataclass(frozen=True, slots=True)
class Rate:
    """One major unit of ``base`` is worth ``numerator / denominator`` major units of ``quote``. Both are positive."""

    base: str
    quote: str
    numerator: int
    denominator: int
    places: int  # decimal places of ``quote`` less those of ``base``

    @classmethod
    def between(
        cls,
        base: str,
        quote: str,
        numerator: int,
        denominator: int,
        places: Callable[[str], int] = exponent,
    ) -> Rate:
        """A rate of currencies with ``places`` decimal places."""
        return cls(base, quote, numerator, denominator, places(quote) - places(base))

    def inverse(self) -> Rate:
        """The same the other way round."""
        return Rate(self.quote, self.base, self.denominator, self.numerator, -self.places)

    def minor(self) -> tuple[int, int]:
        """The same for minor units, as numerator and denominator."""
        if self.places >= 0:
            return self.numerator * 10**self.places, self.denominator
        return self.numerator, self.denominator * 10**-self.places

    def convert(self, amount: int, rounding: Rounding = "half-even") -> int:
        """Minor units of ``quote`` for ``amount`` minor units of ``base`` (any sign)."""
        numerator, denominator = self.minor()
        return divide(amount * numerator, denominator, rounding)

    def amounts(self, amount: int, rounding: Rounding) -> Amounts:
        """The same with all that rounding does."""
        numerator, denominator = self.minor()
        dividend = amount * numerator
        fair = divide(dividend, denominator, "half-even")
        return Amounts(
            divide(dividend, denominator, rounding), fair, dividend - fair * denominator, denominator
        )


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
