"""A book in several currencies: euro and dollars for customers, and an account for each side of the business."""

from __future__ import annotations

from typing import Any

from schemas.ledger.currencies import Convert, RecordRate, Revalue, StatedRate
from tests.kit.scenario import Outcome
from tests.unit.ledger.book import Book

#: Account -> its currency. All grow on the credit side and may go to any depth.
PARTIES = {
    "carol-usd": "USD",
    "carol-jpy": "JPY",
    "fx-eur": "EUR",
    "fx-usd": "USD",
    "fx-jpy": "JPY",
    "gain": "EUR",
    "loss": "EUR",
    "round-eur": "EUR",
    "round-usd": "USD",
}


def rate(numerator: int, denominator: int, observed_at: int | None = None) -> StatedRate:
    """Somebody's rate."""
    return StatedRate(numerator=numerator, denominator=denominator, source="desk", observed_at=observed_at)


class MoneyBook(Book):
    """Alice has 1,000.00 euro; ``fx-...`` are liquidity accounts."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for code, currency in PARTIES.items():
            self.open(code, currency=currency)
        self.post("bank", "alice", 100_000).accepted()

    def record(self, base: str, quote: str, numerator: int, denominator: int, **more: Any) -> Outcome:
        """Record a rate."""
        return self.when(
            RecordRate(
                ledger_id=self.ledger,
                base=base,
                quote=quote,
                numerator=numerator,
                denominator=denominator,
                source="ecb",
                **more,
            )
        )

    def convert(self, source: str, target: str, amount: int, **more: Any) -> Outcome:
        """Convert through the liquidity accounts of both currencies."""
        liquidity = [f"fx-{self[code].currency.lower()}" for code in (source, target)]
        rounding = more.pop("rounding_account", None)
        return self.when(
            Convert(
                ledger_id=self.ledger,
                source_account_id=self.ids[source],
                target_account_id=self.ids[target],
                source_liquidity_account_id=self.ids[liquidity[0]],
                target_liquidity_account_id=self.ids[liquidity[1]],
                amount=amount,
                rounding_account_id=None if rounding is None else self.ids[rounding],
                **more,
            )
        )

    def revalue(self, *positions: str, **more: Any) -> Outcome:
        """Revalue positions against the euro liquidity account."""
        return self.when(
            Revalue(
                ledger_id=self.ledger,
                position_account_ids=[self.ids[code] for code in positions],
                counter_account_id=self.ids["fx-eur"],
                gain_account_id=self.ids["gain"],
                loss_account_id=self.ids["loss"],
                **more,
            )
        )
