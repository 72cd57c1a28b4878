"""Refusals of charts, currencies and periods."""

from __future__ import annotations

from schemas.ledger.chart import AdoptChart, ChartNode, Facing
from schemas.ledger.commands import OpenAccount, PostBatch, ReverseTransaction
from schemas.ledger.currencies import PositionRate, RegisterAsset
from schemas.ledger.periods import ClosePeriod, Closing, PostAdjustment, ReopenPeriod
from tests.kit.scenario import START_US, Outcome
from tests.unit.ledger.book import Book
from tests.unit.ledger.money import MoneyBook, rate
from tests.unit.ledger.refusing import refused


def adopt(book: Book, *nodes: ChartNode, facings: list[Facing] | None = None) -> Outcome:
    """A chart with places for the open accounts of the rich book, and ``nodes``."""
    credit = [ChartNode(code=code, type="liability") for code in ("alice", "bob", "dollars")]
    places = [ChartNode(code="bank", type="asset"), *credit, *nodes]
    return book.when(AdoptChart(ledger_id=book.ledger, nodes=places, facings=facings))


@refused("chart-empty")
def _(book: Book) -> tuple[Outcome, str]:
    return book.when(AdoptChart(ledger_id=book.ledger)), "/nodes"


@refused("chart-node-twice")
def _(book: Book) -> tuple[Outcome, str]:
    return adopt(book, ChartNode(code="bob", type="liability")), "/nodes/4/code"


@refused("chart-node-twice")
def _(book: Book) -> tuple[Outcome, str]:
    own = [ChartNode(code="bank", type="asset"), ChartNode(code="assets:bank", type="asset")]
    return book.when(AdoptChart(ledger_id=book.ledger, template="wallet", nodes=own)), "/nodes/1/code"


@refused("chart-type-conflict")
def _(book: Book) -> tuple[Outcome, str]:
    return adopt(book, ChartNode(code="bank:fees", type="income")), "/nodes/4/type"


@refused("chart-type-conflict")
def _(book: Book) -> tuple[Outcome, str]:
    """A node of a template below one of the caller's."""
    own = [ChartNode(code="bank", type="asset"), ChartNode(code="assets:bank:x", type="income")]
    return book.when(AdoptChart(ledger_id=book.ledger, template="wallet", nodes=own)), "/nodes/1/type"


@refused("facing-matches-nothing")
def _(book: Book) -> tuple[Outcome, str]:
    facings = [Facing(debit="bank", credit="*"), Facing(debit="bank", credit="*:fees")]
    return adopt(book, facings=facings), "/facings/1/credit"


@refused("account-outside-chart")
def _(book: Book) -> tuple[Outcome, str]:
    return book.when(AdoptChart(ledger_id=book.ledger, template="wallet")), "/nodes"


@refused("account-outside-chart")
def _(book: Book) -> tuple[Outcome, str]:
    """The bank grows on the debit side."""
    nodes = [ChartNode(code=code, type="liability") for code in ("alice", "bob", "dollars", "bank")]
    return book.when(AdoptChart(ledger_id=book.ledger, nodes=nodes)), "/nodes"


@refused("code-not-in-chart")
def _(book: Book) -> tuple[Outcome, str]:
    adopt(book).accepted()
    return book.when(OpenAccount(ledger_id=book.ledger, code="banks", currency="EUR")), "/code"


@refused("side-not-of-chart")
def _(book: Book) -> tuple[Outcome, str]:
    adopt(book).accepted()
    return book.when(OpenAccount(ledger_id=book.ledger, code="bank:2", currency="EUR")), "/normal_side"


@refused("accounts-may-not-face")
def _(book: Book) -> tuple[Outcome, str]:
    adopt(book, facings=[Facing(debit="bank", credit="alice")]).accepted()
    moves = [book.move("bank", "alice", 1), book.move("bank", "bob", 1)]
    batch = PostBatch(ledger_id=book.ledger, transactions=moves)
    return book.when(batch), "/transactions/1/entries/1/account_id"


@refused("accounts-may-not-face")
def _(book: Book) -> tuple[Outcome, str]:
    adopt(book, facings=[Facing(debit="bank", credit="alice")]).accepted()
    return book.hold("alice", "bob", 1), "/credit_account_id"


@refused("asset-known")
def _(book: Book) -> tuple[Outcome, str]:
    return book.when(RegisterAsset(ledger_id=book.ledger, code="EUR", places=2, name="Euro")), "/code"


@refused("asset-known")
def _(book: Book) -> tuple[Outcome, str]:
    points = RegisterAsset(ledger_id=book.ledger, code="POINTS", places=0, name="Points")
    book.when(points).accepted()
    return book.when(points.model_copy(update={"places": 3})), "/code"


@refused("unknown-currency")
def _(_: Book) -> tuple[Outcome, str]:
    return MoneyBook().record("EUR", "XYZ", 1, 1), "/quote"


@refused("same-currency")
def _(_: Book) -> tuple[Outcome, str]:
    return MoneyBook().record("EUR", "EUR", 1, 1), "/quote"


@refused("same-currency")
def _(_: Book) -> tuple[Outcome, str]:
    return MoneyBook().convert("alice", "bob", 1, rate=rate(1, 1)), "/target_account_id"


@refused("same-currency")
def _(_: Book) -> tuple[Outcome, str]:
    return MoneyBook().revalue("alice"), "/position_account_ids/0"


@refused("same-currency")
def _(_: Book) -> tuple[Outcome, str]:
    twice = [PositionRate(base="USD", numerator=n, denominator=1, source="x") for n in (1, 2)]
    return MoneyBook().revalue("fx-usd", rates=twice), "/rates/1/base"


@refused("rate-not-found")
def _(_: Book) -> tuple[Outcome, str]:
    return MoneyBook().convert("alice", "carol-usd", 1), "/rate"


@refused("rate-not-found")
def _(_: Book) -> tuple[Outcome, str]:
    book = MoneyBook()
    book.record("EUR", "USD", 1, 1).accepted()
    return book.revalue("fx-usd", "fx-jpy"), "/position_account_ids/1"


@refused("rate-too-old")
def _(_: Book) -> tuple[Outcome, str]:
    book = MoneyBook()
    stated = rate(1, 1, book.now_us - 10)
    return book.convert("alice", "carol-usd", 1, rate=stated, max_rate_age_us=10), "/rate"


@refused("rate-from-the-future")
def _(_: Book) -> tuple[Outcome, str]:
    book = MoneyBook()
    return book.record("EUR", "USD", 1, 1, observed_at=book.now_us + 2), "/observed_at"


@refused("rate-from-the-future")
def _(_: Book) -> tuple[Outcome, str]:
    book = MoneyBook()
    return book.convert("alice", "carol-usd", 1, rate=rate(1, 1, book.now_us + 2)), "/rate/observed_at"


@refused("nothing-converted")
def _(_: Book) -> tuple[Outcome, str]:
    return MoneyBook().convert("alice", "carol-usd", 1, rate=rate(1, 3)), "/amount"


@refused("amount-overflow")
def _(_: Book) -> tuple[Outcome, str]:
    return MoneyBook().convert("alice", "carol-usd", 10**37, rate=rate(1_000, 1)), "/amount"


@refused("currency-mismatch")
def _(_: Book) -> tuple[Outcome, str]:
    book = MoneyBook()
    book.ids["fx-usd"] = book.ids["fx-jpy"]
    return book.convert("alice", "carol-usd", 1, rate=rate(1, 1)), "/target_liquidity_account_id"


@refused("currency-mismatch")
def _(_: Book) -> tuple[Outcome, str]:
    """The account for rounding is in the currency whose amount is computed."""
    terms = {"rate": rate(1, 1), "rounding_account": "round-eur"}
    return MoneyBook().convert("alice", "carol-usd", 1, **terms), "/rounding_account_id"


@refused("currency-mismatch")
def _(_: Book) -> tuple[Outcome, str]:
    book = MoneyBook()
    book.ids["loss"] = book.ids["round-usd"]
    return book.revalue("fx-usd"), "/loss_account_id"


@refused("rounding-account-missing")
def _(_: Book) -> tuple[Outcome, str]:
    book = MoneyBook()
    return book.convert("alice", "carol-usd", 5, rate=rate(3, 2), rounding="floor"), "/rounding_account_id"


@refused("position-twice")
def _(_: Book) -> tuple[Outcome, str]:
    book = MoneyBook()
    book.record("EUR", "USD", 1, 1).accepted()
    return book.revalue("fx-usd", "fx-usd"), "/position_account_ids/1"


def close(book: Book, until: int, closing: Closing = "soft") -> Outcome:
    """Close."""
    return book.when(ClosePeriod(ledger_id=book.ledger, until=until, closing=closing))


def adjust(book: Book, effective_at: int | None) -> Outcome:
    """An adjusting entry of 1."""
    transaction = book.move("bank", "alice", 1, effective_at=effective_at)
    return book.when(PostAdjustment(ledger_id=book.ledger, transaction=transaction, reason="forgotten"))


@refused("period-not-over")
def _(book: Book) -> tuple[Outcome, str]:
    return close(book, book.now_us + 2), "/until"


@refused("period-already-closed")
def _(book: Book) -> tuple[Outcome, str]:
    close(book, START_US).accepted()
    return close(book, START_US), "/until"


@refused("period-already-closed")
def _(book: Book) -> tuple[Outcome, str]:
    close(book, START_US, "hard").accepted()
    return close(book, START_US - 1), "/until"


@refused("period-closed")
def _(book: Book) -> tuple[Outcome, str]:
    close(book, START_US).accepted()
    return book.post("bank", "alice", 1, effective_at=START_US - 1), "/transaction/effective_at"


@refused("period-closed")
def _(book: Book) -> tuple[Outcome, str]:
    """In a batch too, and whoever is second."""
    close(book, START_US).accepted()
    moves = [book.move("bank", "alice", 1, effective_at=at) for at in (START_US, START_US - 1)]
    return book.when(PostBatch(ledger_id=book.ledger, transactions=moves)), "/transactions/1/effective_at"


@refused("period-closed")
def _(book: Book) -> tuple[Outcome, str]:
    original = book.post("bank", "alice", 1).accepted()["transaction_id"]
    close(book, START_US).accepted()
    command = ReverseTransaction(ledger_id=book.ledger, transaction_id=original, effective_at=START_US - 1)
    return book.when(command), "/effective_at"


@refused("period-closed")
def _(_: Book) -> tuple[Outcome, str]:
    book = MoneyBook()
    close(book, START_US).accepted()
    return book.convert("alice", "carol-usd", 1, rate=rate(1, 1), effective_at=0), "/effective_at"


@refused("period-closed")
def _(book: Book) -> tuple[Outcome, str]:
    """A hard close admits no adjustment either."""
    close(book, START_US).accepted()
    close(book, START_US - 10, "hard").accepted()
    adjust(book, START_US - 10).accepted()
    return adjust(book, START_US - 11), "/transaction/effective_at"


@refused("period-closed")
def _(book: Book) -> tuple[Outcome, str]:
    close(book, START_US, "hard").accepted()
    return book.when(ReopenPeriod(ledger_id=book.ledger, until=START_US - 1)), "/until"


@refused("period-not-closed")
def _(book: Book) -> tuple[Outcome, str]:
    close(book, START_US).accepted()
    return book.when(ReopenPeriod(ledger_id=book.ledger, until=START_US)), "/until"


@refused("period-not-closed")
def _(book: Book) -> tuple[Outcome, str]:
    close(book, START_US).accepted()
    return adjust(book, START_US), "/transaction/effective_at"


@refused("period-not-closed")
def _(book: Book) -> tuple[Outcome, str]:
    """What counts now is not for adjustments."""
    close(book, START_US).accepted()
    return adjust(book, None), "/transaction/effective_at"
