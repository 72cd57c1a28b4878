"""The rules of several currencies: assets and rates of a ledger, conversions, and what positions are worth.

A conversion never makes one currency out of another. It is two movements, each balanced in its own currency: the
customer against a liquidity account where he sells, a liquidity account against the customer where he buys. So the
sums of the ledger stay zero in every currency, and what the business has at risk is what lies on those accounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import NamedTuple

from events.decider import Accepted, Context, Emit
from schemas.common.base import MAX_AMOUNT
from schemas.ledger.currencies import (
    AssetRegistered,
    Convert,
    CurrencyConverted,
    PositionRate,
    PositionsRevalued,
    PositionValue,
    RateRecorded,
    RecordRate,
    RegisterAsset,
    Revalue,
    StatedRate,
)
from schemas.ledger.terms import Side
from schemas.ledger.transactions import EntryInput, TransactionInput
from services.ledger.conversion import Amounts, Rate
from services.ledger.lookup import account_of, other_currency, owned
from services.ledger.posting import recorded, weigh
from services.ledger.reasons import Refusal
from services.ledger.state import Account, Ledger, State


class Chosen(NamedTuple):
    """A rate with where it is from."""

    rate: Rate
    source: str
    observed_at: int
    rate_id: str | None = None
    inverse: bool = False


def register_asset(command: RegisterAsset, state: State, ctx: Context) -> Accepted:
    """Something that the tables do not know. Its decimal places are for ever: amounts are counted in them."""
    ledger = owned(command.ledger_id, state, ctx)
    if ledger.knows(command.code):
        raise Refusal("asset-known", "/code")
    event = AssetRegistered(ledger_id=ledger.id, code=command.code, places=command.places, name=command.name)
    return Accepted([Emit(ledger.id, ledger.version + 1, event)], {"ledger_id": ledger.id})


def record_rate(command: RecordRate, state: State, ctx: Context) -> Accepted:
    """A rate, as somebody observed it. The newest observation counts, in whatever order they arrive."""
    ledger = owned(command.ledger_id, state, ctx)
    for name, code in (("base", command.base), ("quote", command.quote)):
        if not ledger.knows(code):
            raise Refusal("unknown-currency", f"/{name}")
    if command.base == command.quote:
        raise Refusal("same-currency", "/quote")
    rate_id = ctx.new_id("rate")
    event = RateRecorded(
        ledger_id=ledger.id,
        rate_id=rate_id,
        base=command.base,
        quote=command.quote,
        numerator=command.numerator,
        denominator=command.denominator,
        source=command.source,
        observed_at=_observed(command.observed_at, ctx, "/observed_at"),
    )
    return Accepted([Emit(rate_id, 1, event)], {"rate_id": rate_id})


def convert(command: Convert, state: State, ctx: Context) -> Accepted:
    """Four legs, and a fifth when rounding is not the fair amount. Limits and facings hold as for any posting."""
    ledger = owned(command.ledger_id, state, ctx)
    accounts = _Parties.of(command, ledger)
    sold_currency, bought_currency = accounts.source.currency, accounts.target.currency
    if sold_currency == bought_currency:
        raise Refusal("same-currency", "/target_account_id")
    chosen = _rate(
        ledger, sold_currency, bought_currency, command.rate, command.max_rate_age_us, ctx, "/rate"
    )
    if command.fixed == "sold":
        found = chosen.rate.amounts(command.amount, command.rounding)
        sold, bought = command.amount, found.given
    else:
        found = chosen.rate.inverse().amounts(command.amount, command.rounding)
        sold, bought = found.given, command.amount
    if not found.given or not found.fair:
        raise Refusal("nothing-converted", "/amount")
    if max(found.given, found.fair) > MAX_AMOUNT:
        raise Refusal("amount-overflow", "/amount")
    transaction = TransactionInput(
        entries=accounts.legs(command, sold, bought, found),
        effective_at=command.effective_at,
        reference=command.reference,
        description=command.description,
        metadata=command.metadata,
    )
    transaction_id, conversion_id = ctx.new_id("transaction"), ctx.new_id("conversion")
    transfer = posted(ledger, transaction_id, transaction, ctx, accounts.pointers)
    rounded = found.fair - found.given if command.fixed == "sold" else found.given - found.fair
    common = gcd(found.remainder, found.denominator)
    event = CurrencyConverted(
        ledger_id=ledger.id,
        conversion_id=conversion_id,
        transaction_id=transaction_id,
        source_account_id=accounts.source.id,
        target_account_id=accounts.target.id,
        sold=sold,
        sold_currency=sold_currency,
        bought=bought,
        bought_currency=bought_currency,
        fixed=command.fixed,
        numerator=chosen.rate.numerator,
        denominator=chosen.rate.denominator,
        source=chosen.source,
        observed_at=chosen.observed_at,
        rate_id=chosen.rate_id,
        inverse=chosen.inverse,
        rounding=command.rounding,
        rounded=rounded,
        remainder_numerator=found.remainder // common,
        remainder_denominator=found.denominator // common,
    )
    result = {"conversion_id": conversion_id, "transaction_id": transaction_id}
    return Accepted([transfer, Emit(conversion_id, 1, event)], result)


@dataclass(frozen=True, slots=True)
class _Parties:
    """The accounts of a conversion."""

    source: Account
    target: Account
    source_liquidity: Account
    target_liquidity: Account
    rounding: Account | None

    @classmethod
    def of(cls, command: Convert, ledger: Ledger) -> _Parties:
        """Open accounts, the liquidity accounts in the currencies that they stand for."""

        def named(name: str) -> Account:
            return account_of(ledger, getattr(command, f"{name}_account_id"), f"/{name}_account_id")

        source, target = named("source"), named("target")
        liquidity = named("source_liquidity"), named("target_liquidity")
        for name, account, other in zip(("source", "target"), liquidity, (source, target), strict=True):
            if account.currency != other.currency:
                raise other_currency(account, other.currency, f"/{name}_liquidity_account_id")
        rounding = named("rounding") if command.rounding_account_id is not None else None
        computed = target if command.fixed == "sold" else source
        if rounding is not None and rounding.currency != computed.currency:
            raise other_currency(rounding, computed.currency, "/rounding_account_id")
        return cls(source, target, *liquidity, rounding)

    def legs(self, command: Convert, sold: int, bought: int, found: Amounts) -> list[EntryInput]:
        """Source, its liquidity, the target's liquidity, target, and the difference that rounding makes."""
        out, into = command.source_side, _other(command.source_side)
        computed_sold = command.fixed == "bought"
        legs = [
            _leg(self.source, out, sold),
            _leg(self.source_liquidity, into, found.fair if computed_sold else sold),
            _leg(self.target_liquidity, out, bought if computed_sold else found.fair),
            _leg(self.target, into, bought),
        ]
        # What the customer pays above, or gets below, the fair amount goes to the rounding account.
        kept = found.given - found.fair if computed_sold else found.fair - found.given
        if kept:
            if self.rounding is None:
                raise Refusal("rounding-account-missing", "/rounding_account_id")
            legs.append(_leg(self.rounding, into if kept > 0 else out, abs(kept)))
        return legs

    @property
    def pointers(self) -> tuple[str, ...]:
        """Where the command names the account of each leg."""
        names = "source source_liquidity target_liquidity target rounding".split()
        return tuple(f"/{name}_account_id" for name in names)


def revalue(command: Revalue, state: State, ctx: Context) -> Accepted:
    """What positions are worth now, against what they are carried at: the difference is an unrealised gain or loss."""
    ledger = owned(command.ledger_id, state, ctx)
    counter = account_of(ledger, command.counter_account_id, "/counter_account_id")
    for name in ("gain", "loss"):
        account = account_of(ledger, getattr(command, f"{name}_account_id"), f"/{name}_account_id")
        if account.currency != counter.currency:
            raise other_currency(account, counter.currency, f"/{name}_account_id")
    positions = _positions(command, ledger, counter, ctx)
    gain = -(sum(each.value for each in positions) + counter.balance)
    if abs(gain) > MAX_AMOUNT:
        raise Refusal("amount-overflow", "/position_account_ids")
    revaluation_id, transaction_id = ctx.new_id("revaluation"), ctx.new_id("transaction") if gain else None
    emits = []
    if transaction_id is not None:
        result = account_of(ledger, command.gain_account_id if gain > 0 else command.loss_account_id)
        side: Side = "debit" if gain > 0 else "credit"
        transaction = TransactionInput(
            entries=[_leg(counter, side, abs(gain)), _leg(result, _other(side), abs(gain))],
            effective_at=command.effective_at,
            description=command.description,
            metadata=command.metadata,
        )
        pointers = "/counter_account_id", "/gain_account_id" if gain > 0 else "/loss_account_id"
        emits.append(posted(ledger, transaction_id, transaction, ctx, pointers))
    event = PositionsRevalued(
        ledger_id=ledger.id,
        revaluation_id=revaluation_id,
        transaction_id=transaction_id,
        counter_account_id=counter.id,
        currency=counter.currency,
        positions=positions,
        carried=counter.balance,
        unrealised=gain,
    )
    emits.append(Emit(revaluation_id, 1, event))
    answer = {"revaluation_id": revaluation_id, "transaction_id": transaction_id}
    return Accepted(emits, {name: value for name, value in answer.items() if value is not None})


def _positions(command: Revalue, ledger: Ledger, counter: Account, ctx: Context) -> list[PositionValue]:
    stated: dict[str, tuple[int, PositionRate]] = {}
    for index, rate in enumerate(command.rates):
        if rate.base in stated or rate.base == counter.currency:
            raise Refusal("same-currency", f"/rates/{index}/base")
        stated[rate.base] = index, rate
    found: dict[str, PositionValue] = {}
    for index, account_id in enumerate(command.position_account_ids):
        at = f"/position_account_ids/{index}"
        account = account_of(ledger, account_id, at)
        if account.currency == counter.currency:
            raise Refusal("same-currency", at)
        if account_id in found:
            raise Refusal("position-twice", at)
        where, given = stated.get(account.currency, (None, None))
        pointer = at if where is None else f"/rates/{where}"
        chosen = _rate(
            ledger, account.currency, counter.currency, given, command.max_rate_age_us, ctx, pointer
        )
        found[account_id] = PositionValue(
            account_id=account_id,
            currency=account.currency,
            balance=account.balance,
            value=chosen.rate.convert(account.balance),
            numerator=chosen.rate.numerator,
            denominator=chosen.rate.denominator,
            source=chosen.source,
            observed_at=chosen.observed_at,
            rate_id=chosen.rate_id,
            inverse=chosen.inverse,
        )
    return list(found.values())


def _rate(
    ledger: Ledger,
    base: str,
    quote: str,
    stated: StatedRate | PositionRate | None,
    max_age_us: int | None,
    ctx: Context,
    pointer: str,
) -> Chosen:
    """The rate that was stated, or the ledger's newest in either direction (its own when both are as new)."""
    if stated is not None:
        rate = Rate.between(base, quote, stated.numerator, stated.denominator, ledger.places)
        chosen = Chosen(rate, stated.source, _observed(stated.observed_at, ctx, f"{pointer}/observed_at"))
    else:
        direct, upside_down = ledger.rates.get((base, quote)), ledger.rates.get((quote, base))
        if direct is not None and (upside_down is None or direct.observed_at >= upside_down.observed_at):
            rate = Rate.between(base, quote, direct.numerator, direct.denominator, ledger.places)
            chosen = Chosen(rate, direct.source, direct.observed_at, direct.rate_id)
        elif upside_down is not None:
            kept = upside_down
            rate = Rate.between(base, quote, kept.denominator, kept.numerator, ledger.places)
            chosen = Chosen(rate, kept.source, kept.observed_at, kept.rate_id, inverse=True)
        else:
            raise Refusal("rate-not-found", pointer, f"the ledger has no rate between {base} and {quote}")
    if max_age_us is not None and ctx.now_us - chosen.observed_at > max_age_us:
        raise Refusal("rate-too-old", pointer)
    return chosen


def _observed(at: int | None, ctx: Context, pointer: str) -> int:
    if at is not None and at > ctx.now_us:
        raise Refusal("rate-from-the-future", pointer)
    return ctx.now_us if at is None else at


def _leg(account: Account, side: Side, amount: int) -> EntryInput:
    return EntryInput(account_id=account.id, side=side, amount=amount, currency=account.currency)


def _other(side: Side) -> Side:
    return "credit" if side == "debit" else "debit"


def posted(
    ledger: Ledger,
    transaction_id: str,
    transaction: TransactionInput,
    ctx: Context,
    pointers: Sequence[str],
) -> Emit:
    """Weigh a transaction that a rule has made; a refusal points at where the command names the account."""
    try:
        weigh(ledger, transaction, {}, "")
    except Refusal as refusal:
        raise refusal.at(_renamed(refusal.pointer, pointers)) from None
    return Emit(transaction_id, 1, recorded(ledger.id, transaction_id, transaction, ctx.now_us))


def _renamed(pointer: str | None, pointers: Sequence[str]) -> str:
    if pointer == "/effective_at":
        return pointer
    parts = (pointer or "").split("/")
    return pointers[int(parts[2])] if len(parts) > 2 and parts[1] == "entries" else ""
