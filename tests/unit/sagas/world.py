"""A whole platform in one thread: payments, ledger and saga as they are, risk and compliance as scripts.

Everything between them is as bad as it may be in production, driven by one seeded generator: services run in any
order, commands are delayed, doubled or lost, events are published twice, processes crash before or after a
commit and load themselves again, time jumps over deadlines. What the design promises is kept: the events of one
shard reach the saga in their order, and a command id has one effect.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from events.decider import Accepted, Decider, Rejected
from nexafi.ids import derived_id, make_id
from sagas.payment.decider import PaymentSagaDecider
from sagas.payment.policy import Policy
from schemas.common.base import Command
from schemas.common.outcomes import CommandIssued
from schemas.ledger import commands as lc
from schemas.payments import commands as pc
from schemas.sagas.commands import ObserveEvent
from services.ledger.domain import LedgerDecider
from services.payments.domain import PaymentsDecider
from tests.kit.scenario import ROOT, START_US
from tests.unit.sagas.node import SHARD, TENANT, Node, Published, Sent

SECOND = 1_000_000
FORWARDED_WITHOUT_SAGA = {
    "payments.payment-initiated.v1",
    "payments.cancellation-requested.v1",
    "payments.refund-requested.v1",
}


@dataclass
class Trouble:
    """How bad it gets; probabilities in percent."""

    lose: int = 0
    double: int = 0
    republish: int = 0
    crash: int = 0
    refuse: int = 0  # the ledger refuses for no reason
    deny: int = 10
    hit: int = 10
    slow: int = 10  # time jumps past deadlines
    forget_results: int = 0  # a repeated observation is not recognised by the engine

    def heal(self) -> None:
        """From now on nothing is lost."""
        self.lose = self.double = self.republish = self.crash = self.refuse = self.slow = 0
        self.forget_results = 0


@dataclass
class World:
    """Everything, and the generator that decides what happens next."""

    seed: int
    trouble: Trouble = field(default_factory=Trouble)
    policy: Policy = field(default_factory=Policy)
    floor: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.now_us = START_US
        self.count = 0
        self.payments = Node(self, PaymentsDecider())
        self.ledger = Node(self, LedgerDecider())
        self.saga = Node(self, PaymentSagaDecider(self.policy))
        self.nodes = (self.payments, self.ledger, self.saga)
        self.to_risk: deque[tuple[str, Sent]] = deque()
        self.answers: dict[str, tuple[str, dict[str, Any]]] = {}
        self.partner_events: dict[str, deque[ObserveEvent]] = {"ai": deque(), "compliance": deque()}
        self.partner_position = {"ai": 0, "compliance": 0}
        self.cases: dict[str, str] = {}  # case -> open | release | block | withdrawn
        self.case_payment: dict[str, str] = {}
        self.ledger_id = self.call(self.ledger, lc.CreateLedger(name="main"))["ledger_id"]
        self.bank = self.account("bank", None)

    # ------------------------------------------------------------------ what callers do

    def chance(self, percent: int) -> bool:
        """True with this probability."""
        return percent > 0 and self.rng.randrange(100) < percent

    def next_id(self) -> str:
        """A fresh command id."""
        self.count += 1
        return derived_id(ROOT, self.seed, self.count)

    def call(self, node: Node, command: Command) -> dict[str, Any]:
        """A command that must be accepted at once, before the trouble begins."""
        sent = Sent(self.next_id(), command)
        node.inbox.appendleft(sent)
        trouble, self.trouble = self.trouble, Trouble()
        node.step()
        self.trouble = trouble
        decision = node.results[sent.id]
        assert isinstance(decision, Accepted), decision
        return decision.result

    def account(self, code: str, floor: int | None, funds: int = 0) -> str:
        """An account of a customer, with money in it."""
        command = lc.OpenAccount(ledger_id=self.ledger_id, code=code, currency="EUR", floor=floor)
        account_id: str = self.call(self.ledger, command)["account_id"]
        if funds:
            legs = ((self.bank, "debit"), (account_id, "credit"))
            entries = [{"account_id": a, "side": s, "amount": funds, "currency": "EUR"} for a, s in legs]
            self.call(
                self.ledger,
                lc.PostTransaction.model_validate(
                    {"ledger_id": self.ledger_id, "transaction": {"entries": entries}}
                ),
            )
        return account_id

    def pay(self, payer: str, payee: str, amount: int) -> str:
        """Initiate; the payment's id."""
        command = pc.InitiatePayment.model_validate(
            {
                "ledger_id": self.ledger_id,
                "payer": {"account_id": payer, "name": "Payer"},
                "payee": {"account_id": payee, "name": "Payee"},
                "amount": amount,
                "currency": "EUR",
            }
        )
        payment_id: str = self.call(self.payments, command)["payment_id"]
        return payment_id

    def ask(self, command: Command) -> str:
        """A caller's command on its way; its id."""
        sent = Sent(self.next_id(), command)
        self.payments.inbox.append(sent)
        return sent.id

    # ------------------------------------------------------------------ partners as scripts

    def whim(self, decider: Decider[Any], sent: Sent) -> Rejected | None:
        """The ledger says no, as it may for many reasons that have nothing to do with the hold being gone."""
        may_fail = (lc.PlaceHold, lc.PostHold, lc.PostTransaction)
        asked = decider.service == "ledger" and isinstance(sent.command, may_fail) and sent.saga_id
        return Rejected("ceiling-exceeded", "a whim") if asked and self.chance(self.trouble.refuse) else None

    def partner(self, target: str, issued: CommandIssued) -> None:
        """Risk and compliance: one answer for each command id, whatever is asked again."""
        if issued.command_id in self.answers:
            return
        payment_id = issued.data.get("payment_id", issued.saga_id)
        answer: tuple[str, dict[str, Any]] | None
        if issued.command_type == "ai.score-payment.v1":
            if self.chance(self.trouble.refuse // 4):
                answer = self.refusal(issued, "unknown-model")
            else:
                denied = self.chance(self.trouble.deny)
                data = {"payment_id": payment_id, "score_bp": 9000 if denied else 10}
                answer = ("ai.payment-scored.v1", {**data, "decision": "deny" if denied else "allow"})
        elif issued.command_type == "compliance.screen-payment.v1":
            if self.chance(self.trouble.refuse // 4):
                answer = self.refusal(issued, "list-not-loaded")
            else:
                answer = self.screening(payment_id, issued.command_id)
        else:
            case = issued.data["case_id"]
            if self.cases.get(case) != "open":
                answer = self.refusal(issued, "case-closed")
            else:
                self.cases[case] = "withdrawn"
                answer = ("compliance.case-withdrawn.v1", {"case_id": case, "payment_id": payment_id})
        self.answers[issued.command_id] = answer
        self.partner_says(target, *answer, payment_id)

    def screening(self, payment_id: str, command_id: str) -> tuple[str, dict[str, Any]]:
        """Clear, or a hit that opens a case."""
        if not self.chance(self.trouble.hit):
            return "compliance.screening-completed.v1", {
                "payment_id": payment_id,
                "outcome": "clear",
                "case_id": None,
            }
        case = make_id(self.now_us, 1, command_id, "case")
        self.cases[case] = "open"
        self.case_payment[case] = payment_id
        return "compliance.screening-completed.v1", {
            "payment_id": payment_id,
            "outcome": "hit",
            "case_id": case,
        }

    def officer(self, case: str, decision: str) -> None:
        """An officer decides, unless the case is closed."""
        if self.cases[case] == "open":
            self.cases[case] = decision
            data = {"case_id": case, "payment_id": self.case_payment[case], "decision": decision}
            self.partner_says("compliance", "compliance.case-decided.v1", data, self.case_payment[case])

    def refusal(self, issued: CommandIssued, reason: str) -> tuple[str, dict[str, Any]]:
        """The engine's event for a refused command of a saga."""
        return f"{issued.target}.command-refused.v1", {
            "command_id": issued.command_id,
            "command_type": issued.command_type,
            "saga_id": issued.saga_id,
            "reason": reason,
            "detail": "",
        }

    def partner_says(self, service: str, kind: str, data: dict[str, Any], saga_id: str) -> None:
        """An event of a scripted partner, on its way to the router."""
        self.partner_position[service] += 1
        position = self.partner_position[service]
        self.partner_events[service].append(
            self.observation(saga_id, f"{service}-{position}", kind, service, 1, position, data)
        )

    # ------------------------------------------------------------------ relay and router

    def observation(
        self,
        saga_id: str,
        event_id: str,
        kind: str,
        store: str,
        shard: int,
        position: int,
        data: dict[str, Any],
    ) -> ObserveEvent:
        """The router's command for a saga."""
        return ObserveEvent(
            saga_id=saga_id,
            event_id=event_id,
            event_type=kind,
            store=store,
            shard=shard,
            position=position,
            time_us=self.now_us,
            tenant=TENANT,
            actor="x",
            data=data,
        )

    def observe(self, seen: ObserveEvent) -> None:
        """One event reaches the saga's topic."""
        cid = derived_id(seen.saga_id, seen.event_id)
        self.saga.inbox.append(Sent(cid, seen, saga_id=seen.saga_id, actor="router"))

    def relay(self, node: Node) -> None:
        """The next event of a store: commands of the saga go out, other events to the router."""
        if self.chance(self.trouble.republish) and node.log:
            back = self.rng.randrange(1, 5)
            last = node.outbox[0].position - 1
            again = [
                Published(node.decider.service, m.position, e, m, k)
                for e, m, k in node.log[max(0, last - back) : last]
            ]
            node.outbox.extendleft(reversed(again))
        out = node.outbox.popleft()
        event = out.emit.event
        if isinstance(event, CommandIssued):
            self.issue(event)
        elif node is not self.saga and (out.meta.saga_id or out.type in FORWARDED_WITHOUT_SAGA):
            saga_id = out.meta.saga_id or event.payment_id  # type: ignore[attr-defined]
            data = event.model_dump(mode="json")
            event_id = f"{out.store}-{out.position}"
            self.observe(self.observation(saga_id, event_id, out.type, out.store, SHARD, out.position, data))

    def issue(self, issued: CommandIssued) -> None:
        """A command of the saga reaches its partner's topic, or not, or twice."""
        if self.chance(self.trouble.lose):
            return
        for _ in range(2 if self.chance(self.trouble.double) else 1):
            if issued.target in ("ai", "compliance"):
                self.partner(issued.target, issued)
                continue
            node = self.ledger if issued.target == "ledger" else self.payments
            assert issued.shard == SHARD
            command = node.decider.commands[issued.command_type].model_validate(issued.data)
            node.inbox.append(
                Sent(issued.command_id, command, issued.tenant, issued.saga_id, "system:payment-saga")
            )

    # ------------------------------------------------------------------ running

    def tick(self) -> bool:
        """One thing happens somewhere; false when there is nothing left to do but wait."""
        choices: list[tuple[Any, Any]] = [(n.step, None) for n in self.nodes if n.inbox]
        choices += [(self.relay, n) for n in self.nodes if n.outbox]
        choices += [(self.hear, s) for s, q in self.partner_events.items() if q]
        if not choices:
            return False
        self.now_us += self.rng.randrange(1, 2000)
        if self.chance(self.trouble.slow):
            self.now_us += self.rng.choice((1, 31, 31, 31, 40, 130, 700, 4000)) * SECOND
            for node in self.nodes:
                node.fire()
        act, argument = self.rng.choice(choices)
        act() if argument is None else act(argument)
        return True

    def hear(self, service: str) -> None:
        """The router copies the next event of a scripted partner; now and then twice."""
        seen = self.partner_events[service].popleft()
        self.observe(seen)
        if self.chance(self.trouble.republish):
            self.observe(seen)

    def run(self) -> None:
        """Until nothing is under way and nothing is due any more."""
        for _ in range(2_000 * (10 + self.count)):
            if self.tick():
                continue
            dues = [d for n in self.nodes if (d := n.decider.next_due(n.state)) is not None]
            if not dues:
                return
            self.now_us = max(self.now_us + 1, min(dues))
            for node in self.nodes:
                node.fire()
        raise AssertionError("the world does not come to rest")

    def some(self, ticks: int) -> None:
        """A while."""
        for _ in range(ticks):
            if not self.tick():
                return
