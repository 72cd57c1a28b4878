"""Every reason in the table has a command that is refused for it, with a pointer at what is wrong."""

from __future__ import annotations

import re

import pytest

from schemas.common.base import MAX_AMOUNT, Command
from schemas.ledger.chart import AdoptChart
from schemas.ledger.commands import (
    COMMANDS,
    CloseAccount,
    CreateLedger,
    ExpireHold,
    OpenAccount,
    PlaceHold,
    PostBatch,
    PostHold,
    PostTransaction,
    ReverseTransaction,
    SetAccountLimits,
    SetAccountMetadata,
    VoidHold,
)
from schemas.ledger.currencies import Convert, RecordRate, RegisterAsset, Revalue, StatedRate
from schemas.ledger.periods import ClosePeriod, PostAdjustment, ReopenPeriod
from schemas.ledger.templates import ApplyTemplate, DefineTemplate
from services.ledger.holds import expiry_id
from services.ledger.reasons import REASONS, Refusal
from tests.kit.scenario import START_US, Outcome
from tests.unit.ledger import accounting_refusals
from tests.unit.ledger.book import NOWHERE, SAGA, Book, when
from tests.unit.ledger.refusing import CASES, Case, refused, rich_book
from tests.unit.ledger.template_refusals import PAYING

#: They register themselves; named here so that nobody takes the import away.
REGISTERED = accounting_refusals
HOUR_US = 3_600_000_000


@refused("ledger-not-found")
def _(book: Book) -> tuple[Outcome, str]:
    return book.when(OpenAccount(ledger_id=NOWHERE, code="x", currency="EUR")), "/ledger_id"


@refused("account-not-found")
def _(book: Book) -> tuple[Outcome, str]:
    return book.post("bank", "nobody", 1), "/transaction/entries/1/account_id"


@refused("account-not-found")
def _(book: Book) -> tuple[Outcome, str]:
    return book.hold("nobody", "bob", 1), "/debit_account_id"


@refused("account-not-found")
def _(book: Book) -> tuple[Outcome, str]:
    return book.hold("alice", "nobody", 1), "/credit_account_id"


@refused("account-not-found")
def _(book: Book) -> tuple[Outcome, str]:
    return book.when(SetAccountLimits(ledger_id=book.ledger, account_id=NOWHERE)), "/account_id"


@refused("account-closed")
def _(book: Book) -> tuple[Outcome, str]:
    return book.post("bank", "gone", 1), "/transaction/entries/1/account_id"


@refused("account-closed")
def _(book: Book) -> tuple[Outcome, str]:
    return book.hold("alice", "gone", 1), "/credit_account_id"


@refused("account-closed")
def _(book: Book) -> tuple[Outcome, str]:
    command = SetAccountMetadata(ledger_id=book.ledger, account_id=book.ids["gone"], metadata={})
    return book.when(command), "/account_id"


@refused("account-closed")
def _(book: Book) -> tuple[Outcome, str]:
    book.open("late")
    original = book.post("bank", "late", 1).accepted()["transaction_id"]
    book.post("late", "bank", 1).accepted()
    book.when(CloseAccount(ledger_id=book.ledger, account_id=book.ids["late"])).accepted()
    return book.when(ReverseTransaction(ledger_id=book.ledger, transaction_id=original)), "/transaction_id"


@refused("account-not-empty")
def _(book: Book) -> tuple[Outcome, str]:
    return book.when(CloseAccount(ledger_id=book.ledger, account_id=book.ids["alice"])), "/account_id"


@refused("account-has-holds")
def _(book: Book) -> tuple[Outcome, str]:
    book.held("alice", "bob", 5)
    return book.when(CloseAccount(ledger_id=book.ledger, account_id=book.ids["bob"])), "/account_id"


@refused("code-taken")
def _(book: Book) -> tuple[Outcome, str]:
    return book.when(OpenAccount(ledger_id=book.ledger, code="alice", currency="EUR")), "/code"


@refused("unknown-currency")
def _(book: Book) -> tuple[Outcome, str]:
    return book.when(OpenAccount(ledger_id=book.ledger, code="x", currency="XYZ")), "/currency"


@refused("currency-mismatch")
def _(book: Book) -> tuple[Outcome, str]:
    return book.post("bank", "dollars", 1), "/transaction/entries/1/currency"


@refused("currency-mismatch")
def _(book: Book) -> tuple[Outcome, str]:
    return book.hold("alice", "dollars", 1), "/currency"


@refused("floor-above-ceiling")
def _(book: Book) -> tuple[Outcome, str]:
    command = OpenAccount(ledger_id=book.ledger, code="x", currency="EUR", floor=1, ceiling=0)
    return book.when(command), "/floor"


@refused("balance-outside-limits")
def _(book: Book) -> tuple[Outcome, str]:
    return book.when(OpenAccount(ledger_id=book.ledger, code="x", currency="EUR", floor=1)), "/floor"


@refused("balance-outside-limits")
def _(book: Book) -> tuple[Outcome, str]:
    return book.when(OpenAccount(ledger_id=book.ledger, code="x", currency="EUR", ceiling=-1)), "/ceiling"


@refused("metadata-too-large")
def _(book: Book) -> tuple[Outcome, str]:
    account_id = book.open("x", metadata={f"a{i}": "1" for i in range(20)})
    more = {f"b{i}": "1" for i in range(13)}
    command = SetAccountMetadata(ledger_id=book.ledger, account_id=account_id, metadata=more)
    return book.when(command), "/metadata"


@refused("unbalanced")
def _(book: Book) -> tuple[Outcome, str]:
    return (
        book.transact(book.entry("debit", "bank", 2), book.entry("credit", "alice", 1)),
        "/transaction/entries",
    )


@refused("unbalanced")
def _(book: Book) -> tuple[Outcome, str]:
    entries = [book.entry("debit", "bank", 2), book.entry("credit", "dollars", 2, "USD")]
    return book.transact(*entries), "/transaction/entries"


@refused("unbalanced")
def _(book: Book) -> tuple[Outcome, str]:
    uneven = book.move("bank", "alice", 2).model_copy(
        update={"entries": [book.entry("debit", "bank", 1), book.entry("debit", "alice", 1)]}
    )
    transactions = [book.move("bank", "alice", 1), uneven]
    return book.when(PostBatch(ledger_id=book.ledger, transactions=transactions)), "/transactions/1/entries"


@refused("condition-not-met")
def _(book: Book) -> tuple[Outcome, str]:
    entry = book.entry("debit", "alice", 1, condition=when("posted", at_least=101))
    return book.transact(entry, book.entry("credit", "bob", 1)), "/transaction/entries/0/condition"


@refused("insufficient-funds")
def _(book: Book) -> tuple[Outcome, str]:
    return book.post("alice", "bob", 101), "/transaction/entries/0"


@refused("insufficient-funds")
def _(book: Book) -> tuple[Outcome, str]:
    return book.hold("alice", "bob", 101), "/amount"


@refused("ceiling-exceeded")
def _(book: Book) -> tuple[Outcome, str]:
    book.open("purse", ceiling=10)
    return book.post("bank", "purse", 11), "/transaction/entries/1"


@refused("amount-overflow")
def _(book: Book) -> tuple[Outcome, str]:
    book.open("universe")
    book.post("bank", "universe", MAX_AMOUNT - 100).accepted()
    return book.post("bank", "universe", 1), "/transaction/entries/0"  # the bank overflows first


@refused("amount-overflow")
def _(book: Book) -> tuple[Outcome, str]:
    return book.hold("bank", "bob", MAX_AMOUNT), "/amount"  # on top of the 100 that it has


@refused("transaction-not-found")
def _(book: Book) -> tuple[Outcome, str]:
    return book.when(ReverseTransaction(ledger_id=book.ledger, transaction_id=NOWHERE)), "/transaction_id"


@refused("transaction-not-found")
def _(book: Book) -> tuple[Outcome, str]:
    """The stream of an account is no transaction."""
    command = ReverseTransaction(ledger_id=book.ledger, transaction_id=book.ids["alice"])
    return book.when(command), "/transaction_id"


@refused("transaction-not-found")
def _(book: Book) -> tuple[Outcome, str]:
    """A transaction of another ledger of the same tenant."""
    original = book.post("bank", "alice", 1).accepted()["transaction_id"]
    second = book.when(CreateLedger(name="second")).accepted()["ledger_id"]
    return book.when(ReverseTransaction(ledger_id=second, transaction_id=original)), "/transaction_id"


@refused("already-reversed")
def _(book: Book) -> tuple[Outcome, str]:
    original = book.post("bank", "alice", 1).accepted()["transaction_id"]
    command = ReverseTransaction(ledger_id=book.ledger, transaction_id=original)
    book.when(command).accepted()
    return book.when(command), "/transaction_id"


@refused("same-account")
def _(book: Book) -> tuple[Outcome, str]:
    return book.hold("alice", "alice", 1), "/credit_account_id"


@refused("expires-in-the-past")
def _(book: Book) -> tuple[Outcome, str]:
    return book.hold(
        "alice", "bob", 1, expires_at=book.now_us + 1
    ), "/expires_at"  # decided at that very time


@refused("hold-not-found")
def _(book: Book) -> tuple[Outcome, str]:
    return book.post_hold(NOWHERE), "/hold_id"


@refused("hold-not-found")
def _(book: Book) -> tuple[Outcome, str]:
    """The stream of a transaction is no hold."""
    return book.void_hold(book.post("bank", "alice", 1).accepted()["transaction_id"]), "/hold_id"


@refused("hold-closed")
def _(book: Book) -> tuple[Outcome, str]:
    hold_id = book.held("alice", "bob", 1)
    book.post_hold(hold_id).accepted()
    return book.post_hold(hold_id), "/hold_id"


@refused("hold-expired")
def _(book: Book) -> tuple[Outcome, str]:
    hold_id = book.held("alice", "bob", 1, expires_at=START_US + HOUR_US)
    book.at(START_US + HOUR_US)
    return book.post_hold(hold_id), "/hold_id"


@refused("hold-expired")
def _(book: Book) -> tuple[Outcome, str]:
    hold_id = book.held("alice", "bob", 1, expires_at=START_US + HOUR_US)
    book.at(START_US + HOUR_US)
    book.run_due()
    return book.void_hold(hold_id), "/hold_id"


@refused("hold-not-due")
def _(book: Book) -> tuple[Outcome, str]:
    hold_id = book.held("alice", "bob", 1)
    command = ExpireHold(ledger_id=book.ledger, hold_id=hold_id)
    return book.when(command, command_id=expiry_id(hold_id)), "/hold_id"


@refused("amount-exceeds-hold")
def _(book: Book) -> tuple[Outcome, str]:
    return book.post_hold(book.held("alice", "bob", 5), 6), "/amount"


@refused("saga-only")
def _(book: Book) -> tuple[Outcome, str]:
    return book.post_hold(book.held("alice", "bob", 5, saga_id=SAGA)), "/hold_id"


@refused("internal-command")
def _(book: Book) -> tuple[Outcome, str]:
    hold_id = book.held("alice", "bob", 1, expires_at=START_US + HOUR_US)
    return book.when(ExpireHold(ledger_id=book.ledger, hold_id=hold_id)), "/hold_id"


@pytest.mark.parametrize(
    ("reason", "case"), [(reason, case) for reason, cases in CASES.items() for case in cases]
)
def test_refusal(reason: str, case: Case) -> None:
    book = rich_book()
    outcome, pointer = case(book)
    assert outcome.rejected(reason, pointer).detail
    book.assert_replay_equal()


def test_every_reason_has_a_case_and_every_case_a_reason() -> None:
    assert CASES.keys() == REASONS.keys()


def test_reasons_are_kebab_case_and_explained() -> None:
    for reason, meaning in REASONS.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", reason)
        assert meaning.endswith(".")


def test_a_reason_outside_the_table_can_not_be_given() -> None:
    with pytest.raises(AssertionError, match="not in the table"):
        Refusal("because")


def every_command(book: Book) -> list[Command]:
    """One command of each type about an existing object of ``book``, except the creation of a ledger."""
    ledger, alice, bob = book.ledger, book.ids["alice"], book.ids["bob"]
    hold_id = book.held("alice", "bob", 1)
    original = book.post("bank", "alice", 1).accepted()["transaction_id"]
    move = book.move("bank", "alice", 1)
    return [
        OpenAccount(ledger_id=ledger, code="new", currency="EUR"),
        PostTransaction(ledger_id=ledger, transaction=move),
        PostBatch(ledger_id=ledger, transactions=[move]),
        ReverseTransaction(ledger_id=ledger, transaction_id=original),
        PlaceHold(ledger_id=ledger, debit_account_id=alice, credit_account_id=bob, amount=1, currency="EUR"),
        PostHold(ledger_id=ledger, hold_id=hold_id),
        VoidHold(ledger_id=ledger, hold_id=hold_id),
        ExpireHold(ledger_id=ledger, hold_id=hold_id),
        SetAccountMetadata(ledger_id=ledger, account_id=alice, metadata={"a": "b"}),
        SetAccountLimits(ledger_id=ledger, account_id=alice),
        CloseAccount(ledger_id=ledger, account_id=alice),
        AdoptChart(ledger_id=ledger, template="wallet"),
        RegisterAsset(ledger_id=ledger, code="POINTS", places=0, name="Points"),
        RecordRate(ledger_id=ledger, base="EUR", quote="USD", numerator=1, denominator=1, source="x"),
        Convert(
            ledger_id=ledger,
            source_account_id=alice,
            target_account_id=bob,
            source_liquidity_account_id=alice,
            target_liquidity_account_id=bob,
            amount=1,
            rate=StatedRate(numerator=1, denominator=1, source="x"),
        ),
        ClosePeriod(ledger_id=ledger, until=1, closing="soft"),
        DefineTemplate(ledger_id=ledger, name="pay", template=PAYING),
        ApplyTemplate(ledger_id=ledger, name="pay", amounts={"price": 1}),
        ReopenPeriod(ledger_id=ledger, until=0),
        PostAdjustment(ledger_id=ledger, transaction=move, reason="late"),
        Revalue(
            ledger_id=ledger,
            position_account_ids=[bob],
            counter_account_id=alice,
            gain_account_id=alice,
            loss_account_id=alice,
        ),
    ]


def test_another_tenants_ledger_looks_exactly_like_one_that_does_not_exist() -> None:
    book = rich_book()
    commands = every_command(book)
    assert {type(c) for c in commands} == set(COMMANDS.values()) - {CreateLedger}
    for command in commands:
        foreign = book.when(command, tenant="other").rejected("ledger-not-found", "/ledger_id")
        absent = book.when(command.model_copy(update={"ledger_id": NOWHERE})).rejected("ledger-not-found")
        assert foreign == absent
        assert foreign == book.when(
            command.model_copy(update={"ledger_id": NOWHERE}), tenant="other"
        ).rejected("ledger-not-found")
