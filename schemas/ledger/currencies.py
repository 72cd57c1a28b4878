"""Contracts of a ledger in several currencies: assets of its own, rates, conversions, revaluations."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from schemas.common.base import (
    Amount,
    Code,
    Command,
    Contract,
    Currency,
    Event,
    Id,
    Metadata,
    Micros,
    Name,
    Text,
)
from schemas.ledger.terms import Side

MAX_POSITIONS: Final = 100
MAX_PLACES: Final = 18
#: Part of a rate: any positive integer of up to 36 digits, so that two prices of 18 digits can be divided.
RatePart = Annotated[int, Field(strict=True, gt=0, lt=10**36)]
Places = Annotated[int, Field(strict=True, ge=0, le=MAX_PLACES)]
#: How a quotient that is no integer becomes one.
Rounding = Literal["half-even", "half-up", "down", "up", "floor", "ceiling"]
Fixed = Literal["sold", "bought"]


class StatedRate(Contract):
    """One major unit of what is sold is worth ``numerator / denominator`` major units of what is bought."""

    numerator: RatePart
    denominator: RatePart
    source: Code
    observed_at: Micros | None = Field(default=None, description="Defaults to the time of the command.")


class RegisterAsset(Command):
    """Let a ledger have accounts in something that is in no table of currencies: a token, points, shares."""

    TYPE: ClassVar[str] = "ledger.register-asset.v1"

    ledger_id: Id
    code: Currency
    places: Places
    name: Name


class RecordRate(Command):
    """Tell a ledger what a currency is worth: 1 ``base`` = ``numerator / denominator`` ``quote``, in major units."""

    TYPE: ClassVar[str] = "ledger.record-rate.v1"

    ledger_id: Id
    base: Currency
    quote: Currency
    numerator: RatePart
    denominator: RatePart
    source: Code
    observed_at: Micros | None = Field(default=None, description="Defaults to the time of the command.")


class Convert(Command):
    """Change money from one currency into another: four legs, two in each currency, through liquidity accounts.

    The source account is entered on ``source_side``, the target account on the other; the liquidity accounts
    stand opposite. ``amount`` is what is sold or what is bought. The liquidity account gives the exact amount
    rounded half to even; when ``rounding`` comes to another amount for the customer, the difference of one minor
    unit is entered on ``rounding_account_id``. Without a ``rate`` the ledger's newest is taken.
    """

    TYPE: ClassVar[str] = "ledger.convert.v1"

    ledger_id: Id
    source_account_id: Id
    target_account_id: Id
    source_liquidity_account_id: Id
    target_liquidity_account_id: Id
    amount: Amount
    fixed: Fixed = "sold"
    source_side: Side = "debit"
    rate: StatedRate | None = None
    max_rate_age_us: Annotated[int, Field(strict=True, ge=0)] | None = None
    rounding: Rounding = "half-even"
    rounding_account_id: Id | None = None
    effective_at: Micros | None = None
    reference: Code | None = None
    description: Text = ""
    metadata: Metadata = Field(default_factory=dict)


class PositionRate(Contract):
    """What one major unit of ``base`` is worth in the currency of the counter account."""

    base: Currency
    numerator: RatePart
    denominator: RatePart
    source: Code
    observed_at: Micros | None = None


class Revalue(Command):
    """Bring positions in other currencies to their present worth.

    ``counter_account_id`` is the other side of those positions in the reporting currency: what conversions paid for
    them and what earlier revaluations made of that. Positions at their worth and the counter account must sum to
    zero; what they do not is entered as an unrealised gain or loss. Currencies without a rate here take the
    ledger's newest.
    """

    TYPE: ClassVar[str] = "ledger.revalue.v1"

    ledger_id: Id
    position_account_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_POSITIONS)]
    counter_account_id: Id
    gain_account_id: Id
    loss_account_id: Id
    rates: Annotated[list[PositionRate], Field(max_length=MAX_POSITIONS)] = Field(default_factory=list)
    max_rate_age_us: Annotated[int, Field(strict=True, ge=0)] | None = None
    effective_at: Micros | None = None
    description: Text = ""
    metadata: Metadata = Field(default_factory=dict)


class AssetRegistered(Event):
    """Stream: the ledger. ``places`` are the decimal places of the smallest unit."""

    TYPE: ClassVar[str] = "ledger.asset-registered.v1"

    ledger_id: str
    code: str
    places: int
    name: str


class RateRecorded(Event):
    """Stream: the rate. 1 ``base`` = ``numerator / denominator`` ``quote``, in major units."""

    TYPE: ClassVar[str] = "ledger.rate-recorded.v1"

    ledger_id: str
    rate_id: str
    base: str
    quote: str
    numerator: int
    denominator: int
    source: str
    observed_at: int


class CurrencyConverted(Event):
    """Stream: the conversion. ``transaction_id`` has the legs.

    ``rounded`` minor units went to the rounding account, to the customer's loss when positive, in the currency whose
    amount was computed; beyond it ``remainder_numerator / remainder_denominator`` of a minor unit were left
    by rounding half to even. ``rate_id`` is set when a recorded rate was used, ``inverse`` when upside down.
    """

    TYPE: ClassVar[str] = "ledger.currency-converted.v1"

    ledger_id: str
    conversion_id: str
    transaction_id: str
    source_account_id: str
    target_account_id: str
    sold: int
    sold_currency: str
    bought: int
    bought_currency: str
    fixed: Fixed
    numerator: int
    denominator: int
    source: str
    observed_at: int
    rate_id: str | None = None
    inverse: bool = False
    rounding: Rounding
    rounded: int = 0
    remainder_numerator: int = 0
    remainder_denominator: int = 1


class PositionValue(Contract):
    """A position at its worth. ``balance`` and ``value`` are debits minus credits, ``value`` in the reporting currency."""

    account_id: str
    currency: str
    balance: int
    value: int
    numerator: int
    denominator: int
    source: str
    observed_at: int
    rate_id: str | None = None
    inverse: bool = False


class PositionsRevalued(Event):
    """Stream: the revaluation. ``unrealised`` is the gain (negative: the loss) that ``transaction_id`` enters.

    ``carried`` is the balance of the counter account before it, debits minus credits. Without a change there is
    no transaction.
    """

    TYPE: ClassVar[str] = "ledger.positions-revalued.v1"

    ledger_id: str
    revaluation_id: str
    transaction_id: str | None = None
    counter_account_id: str
    currency: str
    positions: list[PositionValue]
    carried: int
    unrealised: int
