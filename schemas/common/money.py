"""Money: an integer number of minor units and a currency. No float anywhere.

Exponents follow ISO 4217; registered assets that are not currencies (BTC) have their own.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from schemas.common.base import MAX_AMOUNT, Contract, Currency, SignedAmount

_ZERO = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split()
_THREE = "BHD IQD JOD KWD LYD OMR TND".split()
_FOUR = "CLF UYW".split()
_TWO = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE "
    "CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL "
    "HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR "
    "MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK "
    "SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD "
    "YER ZAR ZMW ZWG"
).split()
#: Assets that are not in ISO 4217, with the exponent of their smallest unit.
REGISTERED_ASSETS: dict[str, int] = {"BTC": 8, "ETH": 18, "USDC": 6, "USDT": 6, "EURC": 6}
EXPONENTS: dict[str, int] = (
    dict.fromkeys(_ZERO, 0)
    | dict.fromkeys(_TWO, 2)
    | dict.fromkeys(_THREE, 3)
    | dict.fromkeys(_FOUR, 4)
    | REGISTERED_ASSETS
)


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
