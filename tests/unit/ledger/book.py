"""A book for tests: one ledger whose accounts are called by their codes, so that a test reads like the rule."""

from __future__ import annotations

from typing import Any, Literal

from events.decider import Decider
from schemas.common.base import Event
from schemas.ledger.commands import (
    CreateLedger,
    OpenAccount,
    PlaceHold,
    PostHold,
    PostTransaction,
    Side,
    VoidHold,
)
from schemas.ledger.transactions import BalanceCondition, EntryInput, TransactionInput
from services.ledger.domain import LedgerDecider
from services.ledger.state import Account, State
from tests.kit.scenario import Outcome, Scenario

#: An id of the right form that nothing has.
NOWHERE = "00000000-0000-8000-8000-000000000000"
SAGA = "11111111-1111-5111-8111-111111111111"


class Book(Scenario):
    """A ledger with the accounts ``bank`` (debit, may go to any depth) and ``alice``, ``bob`` (credit, no overdraft)."""

    def __init__(self, decider: Decider[State] | None = None, *, tenant: str = "acme") -> None:
        super().__init__(decider or LedgerDecider(), tenant=tenant)
        self.ids: dict[str, str] = {}
        self.ledger: str = self.when(CreateLedger(name="main")).accepted()["ledger_id"]
        self.open("bank", normal_side="debit")
        self.open("alice", floor=0)
        self.open("bob", floor=0)

    def open(self, code: str, *, currency: str = "EUR", normal_side: Side = "credit", **more: Any) -> str:
        """Open an account."""
        command = OpenAccount(
            ledger_id=self.ledger, code=code, currency=currency, normal_side=normal_side, **more
        )
        self.ids[code] = self.when(command).accepted()["account_id"]
        return self.ids[code]

    def __getitem__(self, code: str) -> Account:
        """The account as memory has it."""
        account: Account = self.state.ledgers[self.ledger].accounts[self.ids[code]]
        return account

    def entry(
        self,
        side: Side,
        code: str,
        amount: int,
        currency: str = "EUR",
        condition: BalanceCondition | None = None,
    ) -> EntryInput:
        """One leg; an unknown code stands for an account that does not exist."""
        account = self.ids.get(code, NOWHERE)
        return EntryInput(
            account_id=account, side=side, amount=amount, currency=currency, condition=condition
        )

    def move(self, source: str, target: str, amount: int, **more: Any) -> TransactionInput:
        """A transaction that debits ``source`` and credits ``target``."""
        return TransactionInput(
            entries=[self.entry("debit", source, amount), self.entry("credit", target, amount)], **more
        )

    def post(self, source: str, target: str, amount: int, **more: Any) -> Outcome:
        """Move money."""
        return self.when(
            PostTransaction(ledger_id=self.ledger, transaction=self.move(source, target, amount, **more))
        )

    def transact(self, *entries: EntryInput) -> Outcome:
        """Post these legs."""
        transaction = TransactionInput(entries=list(entries))
        return self.when(PostTransaction(ledger_id=self.ledger, transaction=transaction))

    def hold(
        self, source: str, target: str, amount: int, *, currency: str = "EUR", saga_id: str = "", **more: Any
    ) -> Outcome:
        """Reserve money."""
        command = PlaceHold(
            ledger_id=self.ledger,
            debit_account_id=self.ids.get(source, NOWHERE),
            credit_account_id=self.ids.get(target, NOWHERE),
            amount=amount,
            currency=currency,
            **more,
        )
        return self.when(command, saga_id=saga_id)

    def held(self, source: str, target: str, amount: int, **more: Any) -> str:
        """Reserve money, which must succeed; the hold's id."""
        hold_id: str = self.hold(source, target, amount, **more).accepted()["hold_id"]
        return hold_id

    def post_hold(
        self, hold_id: str, amount: int | None = None, *, final: bool = True, saga_id: str = ""
    ) -> Outcome:
        """Post a hold in full or in part."""
        command = PostHold(ledger_id=self.ledger, hold_id=hold_id, amount=amount, final=final)
        return self.when(command, saga_id=saga_id)

    def void_hold(self, hold_id: str, *, saga_id: str = "") -> Outcome:
        """Release a hold."""
        return self.when(VoidHold(ledger_id=self.ledger, hold_id=hold_id), saga_id=saga_id)

    def balances(self, code: str) -> tuple[int, int]:
        """Posted and available balance on the normal side."""
        return self[code].posted, self[code].available

    def events(self, *kinds: type[Event]) -> list[Event]:
        """What happened of these kinds (of all, when none is named)."""
        return [emit.event for emit, _ in self.log if not kinds or isinstance(emit.event, kinds)]


def when(
    balance: Literal["posted", "available"], *, at_least: int | None = None, at_most: int | None = None
) -> BalanceCondition:
    """A condition of an entry."""
    return BalanceCondition(balance=balance, at_least=at_least, at_most=at_most)
