"""One payment's saga under test: tell it what happened elsewhere, and look at what it sends."""

from __future__ import annotations

from typing import Any

from nexafi.ids import derived_id, make_id
from sagas.payment.decider import PaymentSagaDecider, State
from sagas.payment.flow import PaymentFlow, RefundFlow
from sagas.payment.policy import Policy
from schemas.common.outcomes import CommandIssued
from schemas.sagas.commands import ObserveEvent, TimerFired
from schemas.sagas.events import SagaEnded
from tests.kit.scenario import START_US, Scenario

SHARD = 5
SECOND = 1_000_000


def an_id(name: str) -> str:
    """A well-formed id on the ledger's shard."""
    return make_id(START_US, SHARD, name)


PAYMENT, LEDGER, PAYER, PAYEE = an_id("payment"), an_id("ledger"), an_id("payer"), an_id("payee")
HOLD, TRANSACTION, CASE, REFUND = an_id("hold"), an_id("transaction"), an_id("case"), an_id("refund")
INITIATED = {
    "payment_id": PAYMENT,
    "ledger_id": LEDGER,
    "payer": {"account_id": PAYER, "name": "Ada", "country": "GB", "device_id": "phone-1"},
    "payee": {"account_id": PAYEE, "name": "Charles", "country": None, "device_id": None},
    "amount": 10**20,  # more than 64 bits hold
    "currency": "ETH",
}
REFUND_REQUESTED = {
    "payment_id": PAYMENT,
    "refund_id": REFUND,
    "amount": 10**19,
    "currency": "ETH",
    "ledger_id": LEDGER,
    "payer_account_id": PAYER,
    "payee_account_id": PAYEE,
}


class SagaScenario(Scenario):
    """A shard of the saga's service."""

    def __init__(self, policy: Policy | None = None) -> None:
        super().__init__(PaymentSagaDecider(policy), shard=SHARD)
        self.positions = {"payments": 0, "ledger": 0, "compliance": 0, "ai": 0}

    @property
    def memory(self) -> State:
        state: State = self.state
        return state

    @property
    def flow(self) -> PaymentFlow:
        flow = self.memory.flows[PAYMENT]
        assert isinstance(flow, PaymentFlow)
        return flow

    @property
    def refund(self) -> RefundFlow:
        flow = self.memory.flows[REFUND]
        assert isinstance(flow, RefundFlow)
        return flow

    def see(self, kind: str, **data: Any) -> list[str]:
        """An event of another service is observed; the types of the commands that the saga sends, in order."""
        store = kind.partition(".")[0]
        self.positions[store] += 1
        event = ObserveEvent(
            saga_id=PAYMENT,
            event_id=f"{store}-{self.positions[store]}",
            event_type=kind,
            store=store,
            shard=SHARD,
            position=self.positions[store],
            time_us=self.now_us,
            tenant=self.tenant,
            actor="x",
            data=data,
        )
        return self._sent(event, derived_id(PAYMENT, event.event_id))

    def refuse(self, command: str, reason: str, command_id: str = "") -> list[str]:
        """The partner refuses the saga's latest command of this type (or the one named)."""
        service = command.partition(".")[0]
        return self.see(
            f"{service}.command-refused.v1",
            command_id=command_id or self.last(command).command_id,
            command_type=command,
            saga_id=PAYMENT,
            reason=reason,
            detail="because",
        )

    def pass_deadline(self) -> list[str]:
        """Time goes on to the next deadline, which fires; what the saga sends."""
        due_us = self.decider.next_due(self.state)
        assert due_us is not None
        self.at(max(self.now_us, due_us))
        (due,) = self.decider.due(self.state, self.now_us, 10)
        return self._sent(due.command, due.command_id)

    def fire(self, number: int, stream: str = PAYMENT, name: str = "again") -> list[str]:
        """A deadline of step ``number`` fires, whether it should or not."""
        timer = TimerFired(saga_id=stream, timer="step", step=number)
        return self._sent(timer, derived_id(stream, name, number, len(self.log)))

    def _sent(self, command: Any, command_id: str) -> list[str]:
        before = len(self.log)
        self.when(command, command_id=command_id, saga_id=PAYMENT).accepted()
        return [e.event.command_type for e, _ in self.log[before:] if isinstance(e.event, CommandIssued)]

    def last(self, command_type: str) -> CommandIssued:
        """The latest command of a type that was sent."""
        return self.all(command_type)[-1]

    def all(self, command_type: str) -> list[CommandIssued]:
        """Every command of a type that was sent."""
        return [
            e.event
            for e, _ in self.log
            if isinstance(e.event, CommandIssued) and e.event.command_type == command_type
        ]

    def ended(self) -> SagaEnded:
        """The saga has ended just now."""
        event = self.log[-1][0].event
        assert isinstance(event, SagaEnded), event
        self.assert_replay_equal()
        return event

    # --- ways to get somewhere

    def initiated(self) -> SagaScenario:
        self.see("payments.payment-initiated.v1", **INITIATED)
        return self

    def scored(self, decision: str = "allow") -> list[str]:
        return self.see("ai.payment-scored.v1", payment_id=PAYMENT, score_bp=7, decision=decision)

    def screened(self, outcome: str = "clear") -> list[str]:
        case = CASE if outcome == "hit" else None
        return self.see(
            "compliance.screening-completed.v1", payment_id=PAYMENT, outcome=outcome, case_id=case
        )

    def decided(self, decision: str) -> list[str]:
        return self.see("compliance.case-decided.v1", case_id=CASE, payment_id=PAYMENT, decision=decision)

    def holding(self) -> SagaScenario:
        self.initiated().scored()
        self.screened()
        return self

    def hold_placed(self) -> list[str]:
        return self.see("ledger.hold-placed.v1", hold_id=HOLD, ledger_id=LEDGER)

    def posting(self) -> SagaScenario:
        self.holding().hold_placed()
        return self

    def money_moved(self) -> list[str]:
        return self.see(
            "ledger.transaction-posted.v1", transaction_id=TRANSACTION, hold_id=HOLD, reference=PAYMENT
        )

    def settled(self) -> SagaScenario:
        self.posting().money_moved()
        self.see("payments.payment-settled.v1", payment_id=PAYMENT, rail="book")
        return self

    def cancelled(self) -> list[str]:
        return self.see("payments.cancellation-requested.v1", payment_id=PAYMENT)

    def payment_failed(self) -> list[str]:
        ending = self.flow.ending
        assert ending is not None
        return self.see(
            "payments.payment-failed.v1",
            payment_id=PAYMENT,
            outcome=ending.outcome,
            reason=ending.reason,
        )
