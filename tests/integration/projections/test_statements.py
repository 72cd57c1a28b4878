"""Statements over a chart on a real database, against sums over the same events at the same two times."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest

from schemas.common.envelope import rfc3339
from schemas.ledger.chart import AdoptedNode, ChartAdopted
from schemas.ledger.currencies import RateRecorded
from schemas.ledger.events import AccountOpened, Entry, LedgerCreated, TransactionPosted
from schemas.ledger.terms import NORMAL_SIDES, AccountType
from services.ledger.api import routes
from tests.integration.projections.conftest import Make
from tests.integration.projections.test_balances import ask, store_batches
from tests.kit.asking import asking
from tests.kit.history import LedgerHistory

pytestmark = pytest.mark.stack
DAY_US = 86_400_000_000
PLACES: dict[str, AccountType] = {
    "assets": "asset",
    "assets:cash": "asset",
    "liabilities:wallets": "liability",
    "equity": "equity",
    "income:fees": "income",
    "expenses": "expense",
}
CURRENCIES = ("EUR", "JPY", "USD")
SECTIONS = {"asset": "assets", "liability": "liabilities", "equity": "equity"}


@dataclass
class Books(LedgerHistory):
    """A ledger with two accounts for each place and currency, some outside of every place, and two charts."""

    codes: dict[str, tuple[str, str]] = field(default_factory=dict)  # account -> its code and currency
    charts: list[tuple[int, set[str]]] = field(default_factory=list)  # position and codes of its nodes

    def open(self, code: str, currency: str) -> None:
        """Open an account on its type's side; those of no place grow on the credit side."""
        account = self.new_id("account")
        kind = next((t for p, t in PLACES.items() if code.startswith(p)), "liability")
        self.codes[account] = (code, currency)
        self.add(
            account,
            AccountOpened(
                ledger_id=self.ledger_id,
                account_id=account,
                code=f"{code}:{currency}",
                currency=currency,
                normal_side=NORMAL_SIDES[kind],
            ),
        )

    def adopt(self, places: dict[str, AccountType]) -> None:
        """A chart with these nodes."""
        nodes = [
            AdoptedNode(code=c, type=t, name=c, normal_side=NORMAL_SIDES[t])
            for c, t in sorted(places.items())
        ]
        revision = len(self.charts) + 1
        self.add(self.ledger_id, ChartAdopted(ledger_id=self.ledger_id, revision=revision, nodes=nodes))
        self.charts.append((self.position, set(places)))

    def move(self, rng: random.Random) -> None:
        """Between any two accounts of a currency; every third counts on another day."""
        currency = rng.choice(CURRENCIES)
        debit, credit = rng.sample([a for a, (_, c) in self.codes.items() if c == currency], 2)
        amount, transaction = rng.randrange(1, 10**5), self.new_id("transaction")
        shift = rng.randrange(-10, 10) * DAY_US if rng.randrange(3) == 0 else 0
        legs = [
            Entry(account_id=account, side=side, amount=amount, currency=currency)
            for account, side in ((debit, "debit"), (credit, "credit"))
        ]
        event = TransactionPosted(
            ledger_id=self.ledger_id,
            transaction_id=transaction,
            entries=legs,
            effective_at=self.now_us + shift,
        )
        self.add(transaction, event)


def made(service: str) -> Books:
    """Movements under no chart, under one, and under one with other places."""
    history = Books(service, 1)
    rng = random.Random(5)
    history.ledger_id = history.new_id("ledger")
    history.add(history.ledger_id, LedgerCreated(ledger_id=history.ledger_id, name="main"))
    for code in (*PLACES, "assets:cash:till", "elsewhere"):
        for currency in CURRENCIES:
            history.open(code, currency)
    for places in (None, PLACES, {c: t for c, t in PLACES.items() if c != "assets:cash"}):
        if places is not None:
            history.adopt(places)
        for _ in range(60):
            history.move(rng)
            history.tick(rng.randrange(1, DAY_US // 10))
    return history


def entries(history: Books, at: int, position: int) -> Iterator[tuple[str, str, int]]:
    """(code, currency, debits minus credits) of every entry that counts."""
    for recorded in history.events:
        event: Any = recorded.event
        if not isinstance(event, TransactionPosted) or recorded.envelope.position > position:
            continue
        for leg in event.entries if event.effective_at <= at else ():
            yield (*history.codes[leg.account_id], leg.amount if leg.side == "debit" else -leg.amount)


def sums(history: Books, at: int, position: int) -> Counter[tuple[str, str]]:
    """By node of the chart in force (``""``: none) and currency."""
    nodes = next((codes for since, codes in reversed(history.charts) if since <= position), set())
    found: Counter[tuple[str, str]] = Counter()
    for code, currency, amount in entries(history, at, position):
        above = [n for n in nodes if f"{code}:{currency}:".startswith(f"{n}:")]
        found[max(above, key=len, default=""), currency] += amount
    return found


def shown(sheets: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """The same from an answer: the lines, what is unclassified, and the result under its own name."""
    found: Counter[tuple[str, str]] = Counter()
    for sheet in sheets:
        currency = sheet["currency"]
        found["", currency] = sheet["unclassified"]
        found["result", currency] = sheet["result"]
        for section, sign in (("assets", 1), ("liabilities", -1), ("equity", -1)):
            for line in sheet[section]["lines"]:
                found[line["code"], currency] = sign * line["amount"]
    return found


def expected(history: Books, at: int, position: int) -> Counter[tuple[str, str]]:
    """What :func:`shown` must come to."""
    found: Counter[tuple[str, str]] = Counter()
    for (node, currency), amount in sums(history, at, position).items():
        if node and PLACES[node] in ("income", "expense"):
            found["result", currency] -= amount
        else:
            found[node, currency] += amount
    return found


async def test_statements_at_any_two_times(make_views: Make) -> None:
    views = await make_views()
    history = made(views.service("ledger"))
    await views.publish(history)
    store_batches(views, history)
    rng = random.Random(6)
    first, last = history.events[0].envelope.time_us, history.now_us
    async with views.running("ledger", "accounting"):
        await views.reached("ledger", history)
        await views.reached("accounting", history)
        async with asking(views.settings, routes) as client:
            for _ in range(25):
                at, known = (rng.randrange(first - DAY_US, last + 11 * DAY_US) for _ in range(2))
                position = max(
                    (r.envelope.position for r in history.events if r.envelope.time_us <= known), default=0
                )
                query = {"at": rfc3339(at), "known_at": rfc3339(known)}
                body = await ask(client, history, "/balance-sheet", **query)
                revision = sum(since <= position for since, _ in history.charts)
                assert (body["chart"] or {"revision": 0})["revision"] == revision
                assert without_zeros(shown(body["currencies"])) == without_zeros(
                    expected(history, at, position)
                )
            early, late = sorted(rng.randrange(first, last) for _ in range(2))
            body = await ask(
                client, history, "/income-statement", **{"from": rfc3339(early), "to": rfc3339(late)}
            )
            before, after = (expected(history, t - 1, history.position) for t in (early, late))
            for statement in body["currencies"]:
                key = "result", statement["currency"]
                assert statement["result"] == after[key] - before[key]
                assert statement["income"]["total"] - statement["expenses"]["total"] == statement["result"]
            assert body["chart"]["revision"] == 2


def without_zeros(found: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Without what is zero."""
    return {key: amount for key, amount in found.items() if amount}


async def test_recorded_rates_serve_where_none_is_stated(make_views: Make) -> None:
    """The newest of either direction that was observed and known at the times asked for."""
    views = await make_views()
    history = made(views.service("ledger"))
    times = []
    for base, quote, numerator, denominator, age in (
        ("USD", "EUR", 90, 100, 0),
        ("EUR", "JPY", 200, 1, 0),
        ("EUR", "USD", 100, 80, 0),  # newer: 1 USD = 0.80 EUR
        ("USD", "EUR", 7, 1, DAY_US),  # recorded last, observed long before
    ):
        history.tick(DAY_US // 100)
        rate_id = history.new_id("rate")
        times.append(history.now_us)
        event = RateRecorded(
            ledger_id=history.ledger_id,
            rate_id=rate_id,
            base=base,
            quote=quote,
            numerator=numerator,
            denominator=denominator,
            source="ecb",
            observed_at=history.now_us - age,
        )
        history.add(rate_id, event)
    await views.publish(history)
    store_batches(views, history)
    async with views.running("ledger", "accounting"):
        await views.reached("ledger", history)
        await views.reached("accounting", history)
        async with asking(views.settings, routes) as client:
            query = {"convert_to": "EUR", "at": rfc3339(history.now_us + 20 * DAY_US)}
            rates = (await ask(client, history, "/balance-sheet", **query))["converted"]["rates"]
            assert (rates["USD"]["numerator"], rates["USD"]["denominator"]) == (80, 100)
            assert (rates["JPY"]["numerator"], rates["JPY"]["source"]) == (1, "ecb")
            query["known_at"] = rfc3339(times[1])
            earlier = (await ask(client, history, "/exposure", **query))["converted"]["rates"]
            assert earlier["USD"]["numerator"] == 90
            query["rates"] = "USD:1/2"
            body = await ask(client, history, "/exposure", **query)
            assert body["converted"]["rates"]["USD"] == {"numerator": 1, "denominator": 2, "source": "stated"}
            at, position = history.now_us + 20 * DAY_US, body["known_at"]["positions"][f"{history.service}/1"]
            total = expected(history, at, position)
            own = [n for n in PLACES if PLACES[n] in ("asset", "liability")] + [""]
            for each in body["currencies"]:
                assert each["net"] == sum(total[node, each["currency"]] for node in own)
            values = {p["currency"]: p["value"] for p in body["converted"]["positions"]}
            nets = {each["currency"]: each["net"] for each in body["currencies"]}
            assert values == {
                "EUR": nets["EUR"],
                "USD": round(Fraction(nets["USD"], 2)),
                "JPY": round(Fraction(nets["JPY"] * 100, 200)),
            }
            assert body["converted"]["gross"] == abs(values["USD"]) + abs(values["JPY"])
            listed = await ask(client, history, "/rates", base="USD", limit="1")
            assert (listed["items"][0]["numerator"], listed["next_cursor"] is None) == (7, False)


async def test_conversion_at_a_stated_rate(make_views: Make) -> None:
    views = await make_views()
    history = made(views.service("ledger"))
    await views.publish(history)
    store_batches(views, history)
    async with views.running("ledger", "accounting"):
        await views.reached("ledger", history)
        await views.reached("accounting", history)
        async with asking(views.settings, routes) as client:
            url = f"/internal/v1/ledgers/{history.ledger_id}"
            query = {"convert_to": "EUR", "rates": "USD:9201/10000,JPY:61/10000"}
            body = (await ask(client, history, "/balance-sheet", **query))["converted"]
            assert body["rates"]["USD"] == {
                "numerator": 9201,
                "denominator": 10000,
                "source": "stated",
            }
            left = body["assets"]["total"] + body["unclassified"]
            right = body["liabilities"]["total"] + body["equity"]["total"] + body["result"]
            assert left == right + body["rounding"]
            assert abs(body["rounding"]) < 30
            trial = (await ask(client, history, "/trial-balance", **query))["converted"]
            assert trial["posted_debit"] == trial["posted_credit"] > 0
            for wrong, pointer in (
                ({"convert_to": "EUR", "rates": "USD:9201/10000"}, "?rates"),
                ({"convert_to": "XYZ"}, "?convert_to"),
                ({"rates": "USD:1/1"}, "?rates"),
                ({"convert_to": "EUR", "rates": "USD:0.92"}, "?rates"),
                ({"convert_to": "EUR", "rates": "USD:1/0"}, "?rates"),
                ({"convert_to": "EUR", "rates": "USD:1/1,USD:2/1"}, "?rates"),
                ({"convert_to": "EUR", "rates": "EUR:2/1"}, "?rates"),
            ):
                for path in ("balance-sheet", "income-statement", "trial-balance"):
                    answer = await client.get(f"{url}/{path}", params=wrong)
                    assert (answer.status_code, answer.json()["pointer"]) == (400, pointer), (wrong, path)
