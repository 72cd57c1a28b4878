"""Cases of refusals: for each reason commands that are refused for it, with the pointer that they must get."""

from __future__ import annotations

from collections.abc import Callable

from schemas.ledger.commands import CloseAccount
from tests.kit.scenario import Outcome
from tests.unit.ledger.book import Book

Case = Callable[[Book], tuple[Outcome, str]]
#: Reason -> cases; each gives an outcome and the pointer that its refusal must have.
CASES: dict[str, list[Case]] = {}


def refused(reason: str) -> Callable[[Case], Case]:
    """Register a case for ``reason``."""

    def register(case: Case) -> Case:
        CASES.setdefault(reason, []).append(case)
        return case

    return register


def rich_book() -> Book:
    """Alice has 100, Bob nothing; there is a dollar account, and ``gone`` is closed."""
    book = Book()
    book.post("bank", "alice", 100).accepted()
    book.open("dollars", currency="USD")
    gone = book.open("gone")
    book.when(CloseAccount(ledger_id=book.ledger, account_id=gone)).accepted()
    return book
