"""Commands of the AI service. The shard follows the payer's account, so its velocity has one writer."""

from __future__ import annotations

from typing import ClassVar

from schemas.common.base import Amount, Code, Command, Currency, Id


class ScorePayment(Command):
    """Score a payment for fraud before money is held."""

    TYPE: ClassVar[str] = "ai.score-payment.v1"

    payment_id: Id
    payer_account_id: Id
    payee_account_id: Id
    device_id: Code | None = None
    amount: Amount
    currency: Currency


COMMANDS: dict[str, type[Command]] = {c.TYPE: c for c in (ScorePayment,)}
