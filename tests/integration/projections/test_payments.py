"""A payment as its API shows it: state, timeline and refunds, for its tenant only."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from fastapi import FastAPI

from nexafi.database import async_engine
from nexafi.http import install_problem_handlers
from nexafi.internal_auth import SCOPE_KEY, Caller
from nexafi.role import Health, RoleContext
from projections.queries.reading import Reader
from schemas.payments import events as e
from schemas.payments.commands import Party
from services.payments.api import routes
from tests.integration.projections.conftest import Make
from tests.kit.history import History


def payment_story(service: str) -> tuple[History, str]:
    """One payment, settled and refunded in part; its id."""
    history = History(service, 0)
    payment, account, other, hold, transaction, refund = (history.new_id(k) for k in "abcdef")
    told: list[e.Event] = [
        e.PaymentInitiated(
            payment_id=payment,
            ledger_id=history.new_id("ledger"),
            payer=Party(account_id=account, name="Ada"),
            payee=Party(account_id=other, name="Bob\tTab"),
            amount=1000,
            currency="EUR",
            external_reference="r-1",
        ),
        e.PaymentScored(payment_id=payment, score_bp=120, decision="allow"),
        e.PaymentScreened(payment_id=payment, outcome="clear"),
        e.PaymentHeld(payment_id=payment, hold_id=hold),
        e.PaymentPosted(payment_id=payment, transaction_id=transaction),
        e.PaymentSettled(payment_id=payment, rail="book"),
        e.RefundRequested(
            payment_id=payment,
            refund_id=refund,
            amount=400,
            currency="EUR",
            ledger_id=history.new_id("ledger"),
            payer_account_id=account,
            payee_account_id=other,
            captured=1000,
            refunded=0,
            reserved=0,
        ),
        e.RefundSettled(payment_id=payment, refund_id=refund, transaction_id=transaction, amount=400),
    ]
    for event in told:
        history.tick()
        history.add(payment, event)
    return history, payment


async def test_payment_with_timeline(make_views: Make) -> None:
    """GET shows everything that happened, in order; another tenant gets the 404 of a payment that is not there."""
    views = await make_views("payments")
    history, payment = payment_story(views.service("payments"))
    await views.publish(history)
    async with views.running("payments"):
        await views.reached("payments", history)
    engine = async_engine(views.settings, "test-api", pool_size=2)
    app = FastAPI()
    install_problem_handlers(app)
    routes(app, Reader(engine), RoleContext(views.settings, asyncio.Event(), Health()))

    async def as_tenant(tenant: str, path: str) -> httpx.Response:
        async def with_caller(scope: Any, receive: Any, send: Any) -> None:
            scope[SCOPE_KEY] = Caller(tenant, "tester")
            await app(scope, receive, send)

        transport = httpx.ASGITransport(with_caller)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path)

    path = f"/internal/v1/payments/{payment}"
    body = (await as_tenant("acme", path)).json()
    assert (body["status"], body["refunded"], body["refunding"], body["score_bp"]) == ("settled", 400, 0, 120)
    assert body["payee"]["name"] == "Bob\tTab"
    assert [step["event"] for step in body["timeline"]] == [
        "payment-initiated",
        "payment-scored",
        "payment-screened",
        "payment-held",
        "payment-posted",
        "payment-settled",
        "refund-requested",
        "refund-settled",
    ]
    assert [(r["status"], r["amount"]) for r in body["refunds"]] == [("settled", 400)]
    hidden = await as_tenant("globex", path)
    absent = await as_tenant("acme", f"/internal/v1/payments/{history.new_id('nothing')}")
    assert hidden.status_code == absent.status_code == 404
    assert hidden.json() == absent.json()
    listed = (await as_tenant("acme", "/internal/v1/payments?external_reference=r-1")).json()
    assert [p["payment_id"] for p in listed["items"]] == [payment]
    await engine.dispose()
