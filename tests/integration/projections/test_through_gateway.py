"""Every query of the views through the gateway of a whole platform, reading what its caller has just written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.common.envelope import micros, rfc3339
from tests.kit.api import Answer, Caller, callers
from tests.kit.book import Book, book_of
from tests.kit.platform import Platform

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


async def read(caller: Caller, path: str, after: Answer) -> dict[str, Any]:
    """A query that sees what ``after`` did."""
    answer = await caller.get(path, consistency_token=after.headers["consistency-token"])
    assert answer.status == 200, (path, answer)
    body: dict[str, Any] = answer.json()
    return body


async def ended(caller: Caller, payment: str) -> dict[str, Any]:
    """The payment, once it has come to an end."""
    for _ in range(400):
        answer = await caller.get(f"/v1/payments/{payment}")
        if answer.status == 200 and answer.json()["status"] not in ("initiated", "held", "posted"):
            return dict(answer.json())
        await asyncio.sleep(0.1)
    raise AssertionError(f"the payment did not end: {answer}")


async def listed(caller: Caller, path: str) -> list[dict[str, Any]]:
    """The first page of a list, once it has anything: another service's view, of which no token says anything."""
    for _ in range(200):
        answer = await caller.get(path)
        assert answer.status == 200, answer
        items: list[dict[str, Any]] = answer.json()["items"]
        if items:
            return items
        await asyncio.sleep(0.1)
    raise AssertionError(f"nothing in {path}")


async def assert_ledger_is_readable(caller: Caller, book: Book) -> None:
    """Accounts, entries, transactions, holds, trial balance; now and as it was before."""
    first = await book.post(500, "opening balance")
    account = await read(caller, f"{book.path}/accounts/{book.alice}", first)
    assert account["balance"] == 500
    later = await book.post(300, "a second one")
    earlier = account["updated_at"].replace("+", "%2B")
    then = await read(caller, f"{book.path}/accounts/{book.alice}?known_at={earlier}", later)
    assert (then["balance"], then["balance_at"]["balance"]) == (800, 500)
    token = then["balance_at"]["known_at"]["token"]
    again = await read(caller, f"{book.path}/accounts/{book.alice}?known_at={token}", later)
    assert again["balance_at"] == then["balance_at"]
    [euro] = (await read(caller, f"{book.path}/trial-balance?at={earlier}", later))["currencies"]
    assert euro["debit_balances"] == euro["credit_balances"] == 500
    hold = {"debit_account_id": book.alice, "credit_account_id": book.bob, "amount": 50, "currency": "EUR"}
    placed = await caller.post(f"{book.path}/holds", hold)
    holds = await read(caller, f"{book.path}/holds?credit_account_id={book.bob}&status=open", placed)
    assert [h["hold_id"] for h in holds["items"]] == [placed.result["hold_id"]]
    entries = await read(caller, f"{book.path}/accounts/{book.alice}/entries?limit=1", placed)
    assert (entries["items"][0]["amount"], entries["next_cursor"] is None) == (300, False)
    operations = await read(caller, "/v1/operations?service=ledger&limit=3", placed)
    assert operations["items"][0]["last_event"] == "ledger.hold-placed.v1"


async def test_what_was_written_can_be_asked_and_found(platform: Platform) -> None:
    async with callers(platform, "reader", "stranger") as (caller, stranger):
        book = await book_of(caller)
        await assert_ledger_is_readable(caller, book)
        made = await caller.post("/v1/payments", book.payment(120, description="three wooden chairs"))
        payment = made.result["payment_id"]
        assert (await ended(caller, payment))["status"] == "settled"
        shown = await read(caller, f"/v1/payments/{payment}", made)
        assert shown["timeline"][-1]["event"] == "payment-settled"
        assert shown["refunds"] == []
        [screening] = await listed(caller, f"/v1/compliance/screenings?payment_id={payment}")
        assert screening["outcome"] == "clear"
        one = await read(caller, f"/v1/compliance/screenings/{screening['screening_id']}", made)
        assert one["hits"] == []
        found = await read(caller, "/v1/search?q=woden%20chairs&kind=payment", made)
        assert [i["id"] for i in found["items"]] == [payment]
        by_account = await read(caller, f"/v1/search?kind=entry&account_id={book.alice}&amount_min=400", made)
        assert [(i["amount"], i["side"]) for i in by_account["items"]] == [(500, "credit")]
        assert by_account["facets"]["side"] == {"credit": 1}
        assert sum(bar["count"] for bar in by_account["histogram"]) == 1
        unseen = await stranger.get("/v1/search?q=chairs")
        assert unseen.json()["total"] == 0
        for path in (f"/v1/payments/{payment}", f"{book.path}/trial-balance?at={rfc3339(0)}"):
            assert (await stranger.get(path)).status == 404
        assert (await stranger.get("/v1/operations")).json()["items"] == []
        assert (await stranger.get(f"/v1/compliance/hits?payment_id={payment}")).json()["items"] == []


async def test_a_book_is_kept_by_its_chart(platform: Platform) -> None:
    """From a template to a balance sheet in one currency, each read after what was written."""
    async with callers(platform, "bookkeeper") as (caller,):
        ledger = await caller.make("/v1/ledgers", {"name": "a shop"}, "ledger_id")
        path = f"/v1/ledgers/{ledger}"
        adopted = await caller.post(f"{path}/chart", {"template": "marketplace"})
        assert adopted.result == {"ledger_id": ledger, "revision": 1}
        chart = (await read(caller, f"{path}/chart", adopted))["chart"]
        assert (chart["template"], chart["revision"]) == ("marketplace", 1)
        templates = await read(caller, "/v1/chart-templates", adopted)
        assert len(templates["items"]) == 4

        async def account(code: str, side: str, currency: str = "EUR") -> str:
            body = {"code": code, "currency": currency, "normal_side": side}
            return await caller.make(f"{path}/accounts", body, "account_id")

        bank, seller = (
            await account("assets:bank:1", "debit"),
            await account("liabilities:sellers:7", "credit"),
        )
        fees = await account("income:commission", "credit")
        capital = await account("equity:capital", "credit")
        outside = {"code": "sellers:8", "currency": "EUR"}
        refused = await caller.post(f"{path}/accounts", outside)
        assert (refused.status, refused.problem) == (422, "code-not-in-chart")

        async def post(debit: str, credit: str, amount: int) -> Answer:
            legs = ((debit, "debit"), (credit, "credit"))
            entries = [{"account_id": a, "side": s, "amount": amount, "currency": "EUR"} for a, s in legs]
            return await caller.post(f"{path}/transactions", {"entries": entries})

        await post(bank, seller, 10_000)
        last = await post(seller, fees, 1_500)
        refused = await post(seller, capital, 1)
        assert (refused.status, refused.problem) == (422, "accounts-may-not-face")
        assert refused.json()["pointer"] == "/entries/1/account_id"
        query = "convert_to=USD&rates=EUR:108/100"
        sheet = await read(caller, f"{path}/balance-sheet?{query}", last)
        [euro] = sheet["currencies"]
        assert (euro["assets"]["total"], euro["liabilities"]["total"], euro["result"]) == (
            10_000,
            8_500,
            1_500,
        )
        assert sheet["converted"]["assets"]["total"] == 10_800
        income = await read(caller, f"{path}/income-statement?{query}", last)
        assert income["converted"]["result"] == 1_620


async def test_money_changes_currency_through_liquidity_and_is_revalued(platform: Platform) -> None:
    """A rate, a conversion at it, an exposure, a revaluation at a newer rate."""
    async with callers(platform, "treasurer") as (caller,):
        ledger = await caller.make("/v1/ledgers", {"name": "a desk"}, "ledger_id")
        path = f"/v1/ledgers/{ledger}"
        ids = {}
        types = {"alice": "liability", "carol": "liability", "fx-eur": "equity", "fx-usd": "equity"}
        types |= {"gain": "income", "loss": "income"}
        nodes = [{"code": code, "type": kind} for code, kind in types.items()]
        assert (await caller.post(f"{path}/chart", {"nodes": nodes})).status == 200
        for code in types:
            currency = "USD" if code in ("carol", "fx-usd") else "EUR"
            body = {"code": code, "currency": currency}
            ids[code] = await caller.make(f"{path}/accounts", body, "account_id")
        rate = {"base": "EUR", "quote": "USD", "numerator": 108, "denominator": 100, "source": "ecb"}
        assert (await caller.post(f"{path}/rates", rate)).status == 201
        parties = {
            "source_account_id": ids["alice"],
            "target_account_id": ids["carol"],
            "source_liquidity_account_id": ids["fx-eur"],
            "target_liquidity_account_id": ids["fx-usd"],
        }
        made = await caller.post(f"{path}/conversions", {**parties, "amount": 10_000})
        [conversion] = (await read(caller, f"{path}/conversions", made))["items"]
        assert (conversion["sold"], conversion["bought"], conversion["source"]) == (10_000, 10_800, "ecb")
        refused = await caller.post(f"{path}/conversions", {**parties, "amount": 1.5})
        assert (refused.status, refused.json()["pointer"]) == (422, "/amount")
        dearer = await caller.post(f"{path}/rates", rate | {"numerator": 100})
        exposure = await read(caller, f"{path}/exposure?convert_to=EUR", dearer)
        assert exposure["converted"]["rates"]["USD"]["numerator"] == 100
        assert exposure["converted"]["net"] == -10_800  # that many dollars are owed, at one euro each
        body = {
            "position_account_ids": [ids["fx-usd"]],
            "counter_account_id": ids["fx-eur"],
            "gain_account_id": ids["gain"],
            "loss_account_id": ids["loss"],
        }
        revalued = await caller.post(f"{path}/revaluations", body)
        [shown] = (await read(caller, f"{path}/revaluations", revalued))["items"]
        assert (shown["unrealised"], shown["carried"], shown["currency"]) == (-800, -10_000, "EUR")
        loss = await read(caller, f"{path}/accounts/{ids['loss']}", revalued)
        assert loss["balance"] == -800
        points = {"code": "POINTS", "places": 0, "name": "Points"}
        registered = await caller.post(f"{path}/assets", points)
        assert [a["code"] for a in (await read(caller, f"{path}/assets", registered))["items"]] == ["POINTS"]
        again = await caller.post(f"{path}/assets", points)
        assert (again.status, again.problem) == (409, "asset-known")
        table = await read(caller, "/v1/currencies", registered)
        assert {"code": "JPY", "numeric": "392", "exponent": 0, "name": "Yen", "withdrawn": False} in table[
            "items"
        ]


async def test_a_month_is_closed_and_only_an_adjustment_enters_it(platform: Platform) -> None:
    """Who may write is not who may close, and who may close is not who may adjust."""
    async with callers(platform, "auditor") as (caller,):
        book = await book_of(caller)
        writer, closer, adjuster = [
            await caller.key([scope]) for scope in ("ledger:write", "ledger:close", "ledger:adjust")
        ]
        first = await book.post(500)
        until = (await read(caller, f"{book.path}/accounts/{book.alice}", first))["updated_at"]
        closing = {"until": micros(until), "closing": "soft", "note": "December"}
        path = f"{book.path}/periods"
        assert (await writer.post(f"{path}/close", closing)).status == 403
        assert (await closer.post(f"{path}/close", closing)).status == 200
        late = book.transaction(70) | {"effective_at": closing["until"] - 1}
        refused = await writer.post(f"{book.path}/transactions", late)
        assert (refused.status, refused.problem) == (409, "period-closed")
        assert refused.json()["pointer"] == "/effective_at"
        adjustment = {"transaction": late, "reason": "an invoice was late"}
        assert (await writer.post(f"{book.path}/adjustments", adjustment)).status == 403
        entered = await adjuster.post(f"{book.path}/adjustments", adjustment)
        assert entered.status == 201
        body = await read(caller, f"{book.path}/restatement", entered)
        assert [(a["account_id"], a["change"]) for a in body["accounts"]] == [
            (book.alice, 70),
            (book.cash, 70),
        ]
        assert body["transactions"][0]["reason"] == "an invoice was late"
        assert (await closer.post(f"{path}/close", closing | {"closing": "hard"})).status == 200
        assert (await adjuster.post(f"{book.path}/adjustments", adjustment)).problem == "period-closed"
        [hard, soft] = (await read(caller, path, await book.post(1)))["items"]
        assert (hard["change"], soft["change"], hard["soft_until"]) == ("hard close", "soft close", until)


async def test_a_template_makes_transactions(platform: Platform) -> None:
    """Defined, tried, applied, applied in bulk; and what it refuses points at what was given."""
    async with callers(platform, "templater") as (caller,):
        book = await book_of(caller)
        await book.post(10_000)
        template = {
            "accounts": ["payee"],
            "amounts": ["price"],
            "flows": [
                {
                    "amount": {"variable": "price"},
                    "sources": [{"account": {"code": "alice"}}],
                    "destinations": [
                        {"account": {"code": "cash"}, "share": {"numerator": 1, "denominator": 3}},
                        {"account": {"variable": "payee"}},
                    ],
                }
            ],
        }
        path = f"{book.path}/templates"
        defined = await caller.post(path, {"name": "split", "template": template})
        assert (defined.status, defined.result["version"]) == (201, 1)
        wrong = await caller.post(path, {"name": "split", "template": template | {"accounts": []}})
        assert (wrong.status, wrong.problem) == (422, "template-invalid")
        assert wrong.json()["pointer"] == "/template/flows/0/destinations/1/account/variable"
        order = {"name": "split", "accounts": {"payee": book.bob}, "amounts": {"price": 100}}
        tried = await caller.post(f"{path}/apply", order | {"dry_run": True})
        assert [(e["side"], e["amount"]) for e in tried.result["entries"]] == [
            ("debit", 100),
            ("credit", 33),
            ("credit", 67),
        ]
        assert (await read(caller, f"{book.path}/accounts/{book.bob}", tried))["balance"] == 0
        applied = await caller.post(f"{path}/apply", order)
        transaction = applied.result["transaction_id"]
        shown = await read(caller, f"{book.path}/transactions/{transaction}", applied)
        assert shown["metadata"] == {"template": "split/1"}
        many = await caller.post(f"{path}/apply/bulk", [order] * 20 + [order | {"amounts": {"price": 10**6}}])
        counts = many.json()["counts"]
        assert (counts["accepted"], counts["rejected"]) == (20, 1)
        bob = await read(caller, f"{book.path}/accounts/{book.bob}", many)
        assert bob["balance"] == 21 * 67
        short = await caller.post(f"{path}/apply", order | {"amounts": {"price": 10**6}})
        assert (short.status, short.problem) == (409, "sources-insufficient")
        [listed] = (await read(caller, f"{path}?name=split", short))["items"]
        assert (listed["number"], listed["template"]["amounts"]) == (1, ["price"])
