"""Money: an integer number of minor units and a currency. No float anywhere.

Exponents follow ISO 4217; registered assets that are not currencies (BTC) have their own.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from schemas.common.base import MAX_AMOUNT, Contract, Currency, SignedAmount
from schemas.common.currencies import ISO_4217

#: Assets that are not in ISO 4217, with the exponent of their smallest unit.
REGISTERED_ASSETS: dict[str, int] = {"BTC": 8, "ETH": 18, "USDC": 6, "USDT": 6, "EURC": 6}
EXPONENTS: dict[str, int] = {code: each.exponent for code, each in ISO_4217.items()} | REGISTERED_ASSETS


class UnknownCurrencyError(ValueError):
    """The code is neither in ISO 4217 nor a registered asset."""


class Money(Contract):
    """``amount`` minor units of ``currency``; ``Money(amount=1250, currency="EUR")`` is 12.50 euro."""

    amount: SignedAmount
    currency: Currency


def exponent(currency: str) -> int:
    """Decimal places of the currency's minor unit (ISO 4217 or registered)."""
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise UnknownCurrencyError(f"unknown currency or asset: {currency[:16]!r}") from None


def parse_amount(text: str, currency: str) -> int:
    """Minor units of a decimal string such as ``"12.50"``; refuses what has no exact representation."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"not an amount: {text[:40]!r}") from None
    if not value.is_finite() or abs(value.adjusted()) > 60:
        raise ValueError(f"not an amount: {text[:40]!r}")
    scaled = value.scaleb(exponent(currency))
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{text} has more decimal places than {currency} has")
    minor = int(scaled)
    if abs(minor) > MAX_AMOUNT:
        raise ValueError("amount has more than 38 digits")
    return minor


def format_amount(amount: int, currency: str) -> str:
    """``1250, "EUR"`` -> ``"12.50"``."""
    digits = exponent(currency)
    sign, value = ("-" if amount < 0 else ""), abs(amount)
    if digits == 0:
        return f"{sign}{value}"
    whole, rest = divmod(value, 10**digits)
    return f"{sign}{whole}.{rest:0{digits}d}"
