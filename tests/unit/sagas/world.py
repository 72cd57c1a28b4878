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

from events.decider import Accepted, Context, Decider, Emit, EventMeta, Rejected
from nexafi.ids import derived_id, make_id
from sagas.payment.decider import PaymentSagaDecider
from sagas.payment.policy import Policy
from schemas.common.base import Command, Event
from schemas.common.outcomes import CommandIssued, CommandRefused
from schemas.ledger import commands as lc
from schemas.payments import commands as pc
from schemas.sagas.commands import ObserveEvent
from services.ledger.domain import LedgerDecider
from services.payments.domain import PaymentsDecider
from tests.kit.scenario import ROOT, START_US

SHARD = 5
SECOND = 1_000_000
TENANT = "acme"
BEGINS = {"payments.payment-initiated.v1", "payments.refund-requested.v1"}
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
class Sent:
    """A command on its way."""

    id: str
    command: Command
    tenant: str = TENANT
    saga_id: str = ""
    actor: str = "caller"


@dataclass
class Published:
    """An event on its way to the router."""

    store: str
    position: int
    emit: Emit
    meta: EventMeta
    type: str


class Node:
    """One shard of one service, run as the engine does."""

    def __init__(self, world: World, decider: Decider[Any]) -> None:
        self.world = world
        self.decider = decider
        self.state = decider.initial(SHARD)
        self.inbox: deque[Sent] = deque()
        self.outbox: deque[Published] = deque()
        self.log: list[tuple[Emit, EventMeta, str]] = []
        self.streams: dict[str, list[tuple[Event, EventMeta]]] = {}
        self.results: dict[str, Accepted | Rejected] = {}
        self.snapshot: tuple[bytes, int] | None = None

    def step(self) -> None:
        """Take one command."""
        sent = self.inbox.popleft()
        world, trouble = self.world, self.world.trouble
        if sent.id in self.results and not self.forgotten(sent):
            return
        if world.chance(trouble.crash):  # before the commit: nothing happened, the command is read again
            self.decide(sent)
            self.restart()
            self.inbox.appendleft(sent)
            return
        self.results[sent.id] = decision = self.decide(sent)
        if isinstance(decision, Accepted):
            for emit in decision.events:
                kind = emit.event.TYPE
                self.append(emit, sent, f"{self.decider.service}.{kind}" if "." not in kind[:-3] else kind)
        elif sent.saga_id:
            refused = CommandRefused(
                command_id=sent.id,
                command_type=sent.command.TYPE,
                saga_id=sent.saga_id,
                reason=decision.reason,
                detail=decision.detail,
            )
            self.append(Emit(sent.id, 1, refused), sent, f"{self.decider.service}.{refused.TYPE}")
        if world.chance(trouble.crash):
            self.restart()

    def forgotten(self, sent: Sent) -> bool:
        """Results of the saga are kept for 90 days only: an old event may be observed again."""
        old = isinstance(sent.command, ObserveEvent) and sent.command.event_type not in BEGINS
        return old and self.world.chance(self.world.trouble.forget_results)

    def decide(self, sent: Sent) -> Accepted | Rejected:
        """What the domain says, with what it needs to be read back."""
        for stream in self.decider.needs(sent.command, self.state):
            if stream in self.streams:
                self.decider.hydrate(self.state, stream, self.streams[stream])
        ctx = Context(self.world.now_us, SHARD, sent.id, sent.tenant, sent.actor, sent.id, sent.saga_id)
        decision = self.world.whim(self.decider, sent) or self.decider.decide(sent.command, self.state, ctx)
        if isinstance(decision, Accepted):
            self.decider.check_events(decision.events)
        return decision

    def append(self, emit: Emit, sent: Sent, kind: str) -> None:
        """Commit one event, apply it, and hand it to the relay."""
        event = type(emit.event).from_json(emit.event.to_json())
        emit = emit._replace(event=event)
        history = self.streams.setdefault(emit.stream, [])
        if isinstance(event, CommandRefused):
            assert emit.version == 1
        else:
            assert emit.version == len(history) + 1, f"{kind}: version {emit.version} after {len(history)}"
        meta = EventMeta(
            emit.stream,
            emit.version,
            self.world.now_us,
            sent.tenant,
            sent.actor,
            sent.id,
            len(self.log) + 1,
            sent.saga_id,
        )
        self.log.append((emit, meta, kind))
        if not isinstance(event, CommandRefused):
            history.append((event, meta))
            self.state = self.decider.evolve(self.state, event, meta)
        self.outbox.append(Published(self.decider.service, meta.position, emit, meta, kind))

    def restart(self) -> None:
        """Forget memory; come back from the snapshot and its tail. Now and then a new snapshot is taken."""
        state, position = self.decider.initial(SHARD), 0
        if self.snapshot is not None:
            state, position = self.decider.load(self.snapshot[0]), self.snapshot[1]
        for emit, meta, _ in self.log[position:]:
            if not isinstance(emit.event, CommandRefused):
                state = self.decider.evolve(state, emit.event, meta)
        self.state = state
        self.decider.check(state)
        if self.world.chance(30):
            self.snapshot = (self.decider.dump(state), len(self.log))

    def fire(self) -> None:
        """Act on deadlines, before anything else is decided."""
        for due in self.decider.due(self.state, self.world.now_us, 100):
            sent = Sent(due.command_id, due.command, due.tenant, due.saga_id, "timer")
            if due.command_id not in self.results:
                self.inbox.appendleft(sent)
                self.step()

    def assert_replay_equal(self) -> None:
        """Full replay, and snapshot plus tail, give the live state."""
        live = self.decider.dump(self.state)
        state = self.decider.initial(SHARD)
        for emit, meta, _ in self.log:
            if not isinstance(emit.event, CommandRefused):
                state = self.decider.evolve(state, emit.event, meta)
        assert self.decider.dump(state) == live
        self.restart()
        assert self.decider.dump(self.state) == live


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

    def run(self, limit: int = 200_000) -> None:
        """Until nothing is under way and nothing is due any more."""
        for _ in range(limit):
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
