"""Short names for tests about payments: ids on one ledger, and a payment brought to a given state."""

from __future__ import annotations

from typing import Any

from nexafi.ids import make_id
from schemas.payments import commands as c
from services.payments.domain import PaymentsDecider
from services.payments.state import State
from tests.kit.scenario import START_US, Outcome, Scenario

LEDGER_SHARD = 5


def an_id(name: str, shard: int = LEDGER_SHARD) -> str:
    """A well-formed id on ``shard``."""
    return make_id(START_US, shard, name)


LEDGER, PAYER, PAYEE = an_id("ledger"), an_id("payer"), an_id("payee")
HOLD, TRANSACTION, CASE = an_id("hold"), an_id("transaction"), an_id("case")


def initiate(**changes: Any) -> c.InitiatePayment:
    """A payment of 12.50 EUR, with what the test is about changed."""
    fields: dict[str, Any] = {
        "ledger_id": LEDGER,
        "payer": {"account_id": PAYER, "name": "Ada Lovelace", "country": "GB"},
        "payee": {"account_id": PAYEE, "name": "Charles Babbage", "country": "GB"},
        "amount": 1250,
        "currency": "EUR",
    }
    return c.InitiatePayment.model_validate(fields | changes)


class PaymentScenario(Scenario):
    """A shard of payments with one payment under test."""

    def __init__(self) -> None:
        super().__init__(PaymentsDecider())
        self.payment_id = ""

    @property
    def memory(self) -> State:
        state: State = self.state
        return state

    def initiated(self, **changes: Any) -> PaymentScenario:
        self.payment_id = self.when(initiate(**changes)).accepted()["payment_id"]
        return self

    def saga(self, command: type[Any], **fields: Any) -> Outcome:
        """A fact as the payment's own saga tells it."""
        return self.when(command(payment_id=self.payment_id, **fields), saga_id=self.payment_id)

    def caller(self, command: type[Any], **fields: Any) -> Outcome:
        """What a caller asks for."""
        return self.when(command(payment_id=self.payment_id, **fields))

    def cleared(self) -> PaymentScenario:
        self.saga(c.RecordRisk, score_bp=120, decision="allow").accepted()
        self.saga(c.RecordScreening, outcome="clear").accepted()
        return self

    def held(self) -> PaymentScenario:
        self.cleared().saga(c.RecordHold, hold_id=HOLD).accepted()
        return self

    def posted(self) -> PaymentScenario:
        self.held().saga(c.RecordPosted, transaction_id=TRANSACTION).accepted()
        return self

    def settled(self) -> PaymentScenario:
        self.posted().saga(c.SettlePayment).accepted()
        return self

    def failed(self, outcome: str = "rejected", reason: str = "risk-denied") -> PaymentScenario:
        if outcome == "cancelled":
            self.caller(c.CancelPayment).accepted()
        self.saga(c.FailPayment, outcome=outcome, reason=reason).accepted()
        return self
