"""Opening, limiting, describing and closing accounts; and whose they are."""

from __future__ import annotations

import pytest

from schemas.ledger.commands import (
    CloseAccount,
    CreateLedger,
    OpenAccount,
    SetAccountLimits,
    SetAccountMetadata,
)
from schemas.ledger.events import (
    AccountClosed,
    AccountLimitsSet,
    AccountMetadataSet,
    AccountOpened,
    LedgerCreated,
)
from services.ledger.domain import LedgerDecider
from tests.kit.scenario import Scenario
from tests.unit.ledger.book import Book


def test_a_ledger_belongs_to_the_tenant_that_creates_it() -> None:
    scenario = Scenario(LedgerDecider())
    outcome = scenario.when(CreateLedger(name="main", metadata={"a": "b"}))
    ledger_id = outcome.accepted()["ledger_id"]
    outcome.then(LedgerCreated(ledger_id=ledger_id, name="main", metadata={"a": "b"}))
    assert scenario.state.ledgers[ledger_id].tenant == "acme"


def test_an_account_opens_empty_with_its_limits() -> None:
    book = Book()
    command = OpenAccount(
        ledger_id=book.ledger,
        code="customers:7",
        currency="BTC",
        name="Ada",
        floor=-5,
        ceiling=10**30,
        metadata={"tier": "gold"},
    )
    outcome = book.when(command)
    account_id = outcome.accepted()["account_id"]
    outcome.then(
        AccountOpened(
            ledger_id=book.ledger,
            account_id=account_id,
            code="customers:7",
            currency="BTC",
            normal_side="credit",
            name="Ada",
            floor=-5,
            ceiling=10**30,
            metadata={"tier": "gold"},
        )
    )
    account = book.state.ledgers[book.ledger].accounts[account_id]
    assert (account.posted, account.available, account.floor, account.ceiling) == (0, 0, -5, 10**30)


def test_overdraft_down_to_the_floor_and_no_further() -> None:
    book = Book()
    book.open("carol", floor=-50)
    book.post("carol", "bob", 50).accepted()
    book.post("carol", "bob", 1).rejected("insufficient-funds", "/transaction/entries/0")


def test_up_to_the_ceiling_and_no_further() -> None:
    book = Book()
    book.open("purse", ceiling=50)
    book.post("bank", "purse", 50).accepted()
    book.post("bank", "purse", 1).rejected("ceiling-exceeded", "/transaction/entries/1")


def test_limits_of_a_debit_account_count_on_its_normal_side() -> None:
    book = Book()
    book.open("vault", normal_side="debit", floor=0, ceiling=10)
    book.post("bob", "vault", 1).rejected("insufficient-funds")
    book.post("vault", "bob", 11).rejected("ceiling-exceeded", "/transaction/entries/0")
    book.post("vault", "bob", 10).accepted()
    book.post("bob", "vault", 10).accepted()


def test_metadata_merges_and_an_empty_value_removes() -> None:
    book = Book()
    account_id = book.open("carol", metadata={"a": "1", "b": "2"})
    outcome = book.when(
        SetAccountMetadata(
            ledger_id=book.ledger, account_id=account_id, metadata={"a": "", "b": "3", "c": "4"}
        )
    )
    outcome.then(
        AccountMetadataSet(ledger_id=book.ledger, account_id=account_id, metadata={"b": "3", "c": "4"})
    )
    assert book["carol"].metadata == {"b": "3", "c": "4"}


def test_limits_are_replaced_together() -> None:
    book = Book()
    command = SetAccountLimits(ledger_id=book.ledger, account_id=book.ids["alice"], ceiling=70)
    book.when(command).then(
        AccountLimitsSet(ledger_id=book.ledger, account_id=book.ids["alice"], floor=None, ceiling=70)
    )
    book.post("alice", "bank", 30).accepted()  # no floor any more
    book.post("bank", "alice", 101).rejected("ceiling-exceeded")


@pytest.mark.parametrize(
    ("limits", "pointer"), [({"floor": 41}, "/floor"), ({"ceiling": 99}, "/ceiling"), ({"ceiling": 10}, None)]
)
def test_limits_that_the_balance_breaks_already_are_refused(
    limits: dict[str, int], pointer: str | None
) -> None:
    book = Book()
    book.post("bank", "alice", 100).accepted()
    book.held("alice", "bob", 60)
    command = SetAccountLimits(ledger_id=book.ledger, account_id=book.ids["alice"], **limits)
    book.when(command).rejected("balance-outside-limits", pointer)


def test_limits_count_open_holds_at_their_worst() -> None:
    book = Book()
    book.post("bank", "alice", 100).accepted()
    book.held("alice", "bob", 60)
    alice, bob = book.ids["alice"], book.ids["bob"]
    book.when(SetAccountLimits(ledger_id=book.ledger, account_id=alice, floor=40, ceiling=100)).accepted()
    book.when(SetAccountLimits(ledger_id=book.ledger, account_id=bob, ceiling=59)).rejected(
        "balance-outside-limits", "/ceiling"
    )
    book.when(SetAccountLimits(ledger_id=book.ledger, account_id=bob, floor=1)).rejected(
        "balance-outside-limits", "/floor"
    )


def test_closing_is_for_good_and_the_code_stays_taken() -> None:
    book = Book()
    carol = book.open("carol")
    book.post("bank", "carol", 5).accepted()
    book.post("carol", "bank", 5).accepted()
    close = CloseAccount(ledger_id=book.ledger, account_id=carol)
    book.when(close).then(AccountClosed(ledger_id=book.ledger, account_id=carol))
    book.when(close).rejected("account-closed", "/account_id")
    book.post("bank", "carol", 1).rejected("account-closed", "/transaction/entries/1/account_id")
    again = OpenAccount(ledger_id=book.ledger, code="carol", currency="EUR")
    book.when(again).rejected("code-taken", "/code")
    book.assert_replay_equal()
    book.state = book.decider.load(book.decider.dump(book.state))
    book.when(again).rejected("code-taken", "/code")
    book.when(close).rejected("account-closed", "/account_id")


def test_two_ledgers_do_not_share_accounts_codes_or_holds() -> None:
    book = Book()
    first, alice = book.ledger, book.ids["alice"]
    book.post("bank", "alice", 5).accepted()
    hold = book.held("alice", "bob", 5)
    transaction = book.log[3][0].stream
    book.ledger = book.when(CreateLedger(name="second")).accepted()["ledger_id"]
    book.ids = {}
    book.open("bob")
    book.ids["alice"] = alice  # of the first ledger
    book.post("bob", "alice", 1).rejected("account-not-found", "/transaction/entries/1/account_id")
    book.post_hold(hold).rejected("hold-not-found", "/hold_id")
    book.void_hold(hold).rejected("hold-not-found", "/hold_id")
    assert first != book.ledger
    assert transaction != hold


def test_memory_holds_only_what_is_open() -> None:
    book = Book()
    empty = len(book.decider.dump(book.state))
    for _ in range(200):
        book.post("bank", "alice", 1).accepted()
        book.void_hold(book.held("alice", "bob", 1)).accepted()
    assert len(book.decider.dump(book.state)) <= empty + 20, "only balances have grown"
