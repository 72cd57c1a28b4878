"""Random programs for the ledger, run against the plain model and checked after every step.

A step names accounts, holds and transactions by number, modulo how many there are, so that a program can be
shrunk and still means something.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from hypothesis import strategies as st

from events.decider import Accepted, Decider
from schemas.common.base import Command
from schemas.ledger import commands as c
from schemas.ledger import transactions as tx
from schemas.ledger.events import HoldPosted, TransactionPosted
from tests.kit.scenario import Scenario
from tests.unit.ledger.model import Leg, Model

SAGA = "11111111-1111-5111-8111-111111111111"
CURRENCIES = ("EUR", "USD", "XYZ")


@dataclass(frozen=True)
class Open:
    """Open an account."""

    ledger: int
    code: int
    currency: int
    side: c.Side
    floor: int | None
    ceiling: int | None


@dataclass(frozen=True)
class Move:
    """A transaction: ``amount`` from one account to another, perhaps with a slip, a condition or more legs."""

    source: int
    target: int
    amount: int
    third: int | None
    slip: str  # "sum", "currency" or none
    at_least: int | None
    balance: Literal["posted", "available"]


@dataclass(frozen=True)
class Batch:
    """Several at once."""

    moves: tuple[Move, ...]


@dataclass(frozen=True)
class Place:
    """Place a hold."""

    source: int
    target: int
    amount: int
    ttl_us: int | None
    by_saga: bool


@dataclass(frozen=True)
class Capture:
    """Post a hold."""

    hold: int
    amount: int | None
    final: bool
    by_saga: bool


@dataclass(frozen=True)
class Do:
    """A command that names one thing."""

    what: str
    which: int
    by_saga: bool


@dataclass(frozen=True)
class Limit:
    """Other limits."""

    account: int
    floor: int | None
    ceiling: int | None


@dataclass(frozen=True)
class Wait:
    """Time passes."""

    us: int


Step = Open | Move | Batch | Place | Capture | Do | Limit | Wait

_ACCOUNTS = (0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 6)
_AMOUNTS = (1, 2, 3, 5, 8, 13, 21)
_FLOORS = (None, None, -10, 0, 0, 5)
_CEILINGS = (None, None, 0, 20, 40)
_DEEDS = (
    "void void expire reverse reverse reverse close close reopen describe reload due due late late foreign"
).split()


def _move(rng: Random, *, slips: tuple[str, ...], conditions: tuple[int | None, ...]) -> Move:
    return Move(
        rng.choice(_ACCOUNTS),
        rng.choice(_ACCOUNTS),
        rng.choice(_AMOUNTS),
        rng.choice((None, None, None, 1, 2, 3)),
        rng.choice(slips),
        rng.choice(conditions),
        rng.choice(("posted", "available")),
    )


def _step(rng: Random) -> Step:
    which, by_saga = rng.randrange(8), rng.choice((False, False, True))
    match rng.randrange(11):
        case 0 | 1:
            slips = ("",) * 12 + ("sum", "currency")
            return _move(rng, slips=slips, conditions=(None, None, None, None, 0, 10))
        case 2 | 3:
            some = [
                _move(rng, slips=("",) * 30 + ("sum",), conditions=(None, None, 0, 5, 20))
                for _ in range(rng.choice((2, 2, 3)))
            ]
            return Batch(tuple(some))
        case 4:
            ttl_us = rng.choice((None, 0, 4, 12, 40))
            return Place(rng.choice(_ACCOUNTS), rng.choice(_ACCOUNTS), rng.choice(_AMOUNTS), ttl_us, by_saga)
        case 5:
            return Capture(which, rng.choice((None, *_AMOUNTS[:5])), rng.choice((False, True)), by_saga)
        case 6:
            return Limit(which, rng.choice(_FLOORS), rng.choice(_CEILINGS))
        case 7:
            return rng.choice(
                (
                    Wait(which + 1),
                    Open(
                        which % 2,
                        which % 6,
                        rng.randrange(3),
                        rng.choice(("debit", "credit")),
                        rng.choice(_FLOORS),
                        rng.choice(_CEILINGS),
                    ),
                )
            )
    return Do(rng.choice(_DEEDS), which, by_saga)


def make_program(rng: Random, length: int) -> list[Step]:
    """A program of ``length`` steps, all choices of which are ``rng``'s."""
    return [_step(rng) for _ in range(length)]


#: Programs that hypothesis can shrink.
PROGRAMS = st.builds(make_program, st.randoms(use_true_random=False), st.integers(1, 40))


class Run:
    """One program: a scenario and the model beside it."""

    def __init__(self, decider: Decider[Any]) -> None:
        self.scenario = Scenario(decider)
        self.model = Model()
        for name in ("one", "two"):
            self.command(c.CreateLedger(name=name))
        self.ledgers = list(self.model.tenants)
        for step in (
            Open(0, 0, 0, "debit", None, None),
            Open(0, 1, 0, "credit", 0, None),
            Open(0, 2, 0, "credit", 0, 30),
            Open(0, 3, 0, "debit", -10, 40),
            Open(0, 4, 1, "credit", None, None),
            Open(1, 0, 0, "credit", None, None),
            Move(0, 1, 20, None, "", None, "posted"),
            Move(0, 2, 9, None, "", None, "posted"),
            Place(1, 2, 3, 12, by_saga=True),
            Place(3, 1, 4, 16, by_saga=False),
        ):
            self.step(step)

    # --- steps

    def step(self, step: Step) -> None:
        """Do one step and check everything after it."""
        match step:
            case Open():
                self.command(
                    c.OpenAccount(
                        ledger_id=self.ledgers[step.ledger],
                        code=f"a{step.code}",
                        currency=CURRENCIES[step.currency],
                        normal_side=step.side,
                        floor=step.floor,
                        ceiling=step.ceiling,
                        metadata={"n": str(step.code)},
                    )
                )
            case Move():
                self.command(
                    c.PostTransaction(ledger_id=self.ledgers[0], transaction=self._transaction(step))
                )
            case Batch():
                transactions = [self._transaction(move) for move in step.moves]
                self.command(c.PostBatch(ledger_id=self.ledgers[0], transactions=transactions))
            case Place():
                self._place(step)
            case Capture():
                hold_id, ledger = self._hold(step.hold)
                post = c.PostHold(ledger_id=ledger, hold_id=hold_id, amount=step.amount, final=step.final)
                self.command(post, saga_id=SAGA if step.by_saga else "")
            case Limit():
                account_id, ledger = self._account(step.account)
                limits = {"floor": step.floor, "ceiling": step.ceiling}
                self.command(c.SetAccountLimits(ledger_id=ledger, account_id=account_id, **limits))
            case Wait():
                self.scenario.at(self.scenario.now_us + step.us)
            case Do():
                self._do(step)
        self.check()

    def _do(self, step: Do) -> None:
        hold_id, hold_ledger = self._hold(step.which)
        account_id, account_ledger = self._account(step.which)
        saga_id = SAGA if step.by_saga else ""
        match step.what:
            case "void":
                self.command(c.VoidHold(ledger_id=hold_ledger, hold_id=hold_id), saga_id=saga_id)
            case "expire":
                self.command(c.ExpireHold(ledger_id=hold_ledger, hold_id=hold_id))
            case "reverse":
                known = list(self.model.transactions)
                original = known[step.which % len(known)]
                ledger = self.ledgers[1] if step.which == 7 else self.model.transactions[original].ledger
                reversal = c.ReverseTransaction(ledger_id=ledger, transaction_id=original)
                self.command(reversal, saga_id=saga_id)
            case "close":
                empty = [
                    i for i, a in self.model.accounts.items() if not self.model.posted(i) and not a.closed
                ]
                if empty and step.which < 6:
                    account_id = empty[step.which % len(empty)]
                    account_ledger = self.model.accounts[account_id].ledger
                self.command(c.CloseAccount(ledger_id=account_ledger, account_id=account_id))
            case "reopen":
                closed = [a for a in self.model.accounts.values() if a.closed]
                if closed:
                    self._reload()
                    again = closed[step.which % len(closed)]
                    self.command(
                        c.OpenAccount(ledger_id=again.ledger, code=again.code, currency=again.currency)
                    )
            case "late":  # the next command comes at the very deadline
                deadline = self.model.holds[hold_id].expires_at
                if deadline is not None and deadline > self.scenario.now_us:
                    self.scenario.at(deadline - 1)
            case "describe":
                metadata = {"n": "", f"k{step.which}": "v"}
                self.command(
                    c.SetAccountMetadata(ledger_id=account_ledger, account_id=account_id, metadata=metadata)
                )
            case "reload":
                self._reload()
            case "due":
                self._due()
            case "foreign":
                self.command(c.VoidHold(ledger_id=hold_ledger, hold_id=hold_id), tenant="other")

    def _reload(self) -> None:
        decider = self.scenario.decider
        self.scenario.state = decider.load(decider.dump(self.scenario.state))

    def _due(self) -> None:
        decider, now = self.scenario.decider, self.scenario.now_us
        overdue = {
            i: h
            for i, h in self.model.holds.items()
            if not h.end and h.expires_at is not None and h.expires_at <= now
        }
        found = decider.due(self.scenario.state, now, 100)
        assert {due.command.hold_id for due in found} == overdue.keys()  # type: ignore[attr-defined]
        for due in found:
            self.command(due.command, tenant=due.tenant, saga_id=due.saga_id, timer_id=due.command_id)

    def _place(self, step: Place) -> None:
        source, ledger = self._account(step.source)
        target, _ = self._account(step.target)
        expires_at = None if step.ttl_us is None else self.scenario.now_us + 1 + step.ttl_us
        place = c.PlaceHold(
            ledger_id=ledger,
            debit_account_id=source,
            credit_account_id=target,
            amount=step.amount,
            currency=self.model.accounts[source].currency,
            expires_at=expires_at,
        )
        self.command(place, saga_id=SAGA if step.by_saga else "")

    def _transaction(self, move: Move) -> tx.TransactionInput:
        source, target = self._account(move.source)[0], self._account(move.target)[0]
        condition = None
        if move.at_least is not None:
            condition = tx.BalanceCondition(balance=move.balance, at_least=move.at_least)
        more = 1 if move.slip == "sum" else 0
        currency = "JPY" if move.slip == "currency" else None
        entries = [
            self._entry("debit", source, move.amount, condition=condition, currency=currency),
            self._entry("credit", target, move.amount + more, currency=currency),
        ]
        if move.third is not None:
            third = self._account(move.third)[0]
            entries += [self._entry("debit", third, 3), self._entry("credit", source, 3)]
        return tx.TransactionInput(entries=entries)

    def _entry(
        self,
        side: c.Side,
        account_id: str,
        amount: int,
        *,
        currency: str | None = None,
        condition: tx.BalanceCondition | None = None,
    ) -> tx.EntryInput:
        currency = currency or self.model.accounts[account_id].currency
        return tx.EntryInput(
            account_id=account_id, side=side, amount=amount, currency=currency, condition=condition
        )

    def _account(self, which: int) -> tuple[str, str]:
        accounts = self.model.accounts
        usable = [i for i, a in accounts.items() if a.ledger == self.ledgers[0] and not a.closed]
        known = usable if usable and which < 6 else list(accounts)
        account_id = known[which % len(known)]
        return account_id, self.model.accounts[account_id].ledger

    def _hold(self, which: int) -> tuple[str, str]:
        known = [i for i, h in self.model.holds.items() if which > 5 or not h.end] or list(self.model.holds)
        hold_id = known[which % len(known)]
        return hold_id, self.model.holds[hold_id].ledger

    # --- checks

    def command(
        self, command: Command, *, tenant: str = "acme", saga_id: str = "", timer_id: str = ""
    ) -> None:
        """Decide a command: the outcome must be the model's."""
        expected = self.model.reasons(
            command, tenant=tenant, now_us=self.scenario.now_us + 1, saga_id=saga_id, timer=bool(timer_id)
        )
        outcome = self.scenario.when(
            command, tenant=tenant, saga_id=saga_id, command_id=timer_id or None
        ).decision
        if isinstance(outcome, Accepted):
            assert not expected, f"{command} was accepted against {expected}"
            self.model.accept(command, outcome.result, tenant=tenant, saga_id=saga_id)
        else:
            assert outcome.reason in expected, f"{outcome} against {expected or 'acceptance'}"

    def check(self) -> None:
        """Memory, history and model agree, and the promises of the ledger hold."""
        history = entries_of(self.scenario)
        for account_id, account in self.model.accounts.items():
            posted = self.model.posted(account_id)
            low, high = posted - self.model.leaving(account_id), posted + self.model.coming(account_id)
            assert account.floor is None or low >= account.floor, "below the floor"
            assert account.ceiling is None or high <= account.ceiling, "above the ceiling"
            signed = posted if account.side == "debit" else -posted
            assert history[account_id] == signed, "history and model differ"
            memory = self.scenario.state.ledgers[account.ledger].accounts.get(account_id)
            assert (memory is None) is account.closed
            if memory is not None:
                facts = (memory.posted, *memory.reach, memory.metadata)
                assert facts == (posted, low, high, account.metadata), "memory and model differ"
        self._check_sums()
        self._check_holds()

    def _check_sums(self) -> None:
        sums: Counter[tuple[str, str]] = Counter()
        for account in self.model.accounts:
            fact = self.model.accounts[account]
            balance = self.model.posted(account)
            sums[fact.ledger, fact.currency] += balance if fact.side == "debit" else -balance
        assert not any(sums.values()), "money is not conserved"

    def _check_holds(self) -> None:
        open_holds = {i: h.remaining for i, h in self.model.holds.items() if not h.end}
        memory = {
            h.id: h.remaining for each in self.scenario.state.ledgers.values() for h in each.holds.values()
        }
        assert memory == open_holds
        moved: Counter[str] = Counter()
        for emit, _ in self.scenario.log:
            if isinstance(emit.event, HoldPosted):
                moved[emit.event.hold_id] += emit.event.amount
        assert all(moved[i] <= h.amount for i, h in self.model.holds.items()), "a hold is overspent"
        deadlines = [
            h.expires_at for h in self.model.holds.values() if not h.end and h.expires_at is not None
        ]
        assert self.scenario.decider.next_due(self.scenario.state) == min(deadlines, default=None)

    def check_cuts(self, cuts: list[int]) -> None:
        """A snapshot at any position and the tail after it give what a full replay gives."""
        decider, log = self.scenario.decider, self.scenario.log
        live = decider.dump(self.scenario.state)
        for cut in cuts:
            state = decider.initial(self.scenario.shard)
            for position, (emit, meta) in enumerate(log):
                if position == cut % (len(log) + 1):
                    state = decider.load(decider.dump(state))
                state = decider.evolve(state, emit.event, meta)
            assert decider.dump(state) == live, f"snapshot at {cut} and tail differ from the live state"
            decider.check(state)
        self.scenario.assert_replay_equal()


def entries_of(scenario: Scenario) -> Counter[str]:
    """Debits minus credits of each account, from the events alone."""
    sums: Counter[str] = Counter()
    legs: list[Leg] = [
        (e.account_id, e.side, e.amount, e.currency)
        for emit, _ in scenario.log
        if isinstance(emit.event, TransactionPosted)
        for e in emit.event.entries
    ]
    for account, side, amount, _ in legs:
        sums[account] += amount if side == "debit" else -amount
    return sums


def run(decider: Decider[Any], program: list[Step], cuts: list[int]) -> Run:
    """Run ``program`` with every check."""
    running = Run(decider)
    for step in program:
        running.step(step)
    running.check_cuts(cuts)
    return running
