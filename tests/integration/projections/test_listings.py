"""Screenings with their hits, cases, and operations: every page by key, each once, for its tenant only."""

from __future__ import annotations

from typing import Any

import httpx

from schemas.compliance import events as e
from services.compliance.api import routes as compliance_routes
from services.payments.api import routes as payment_routes
from tests.integration.projections.conftest import Make
from tests.integration.projections.test_payments import payment_story
from tests.kit.asking import asking
from tests.kit.history import History


async def all_pages(client: httpx.AsyncClient, path: str, **query: str) -> list[dict[str, Any]]:
    """All items, two a page."""
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        more = {"cursor": cursor} if cursor else {}
        answer = await client.get(f"/internal/v1{path}", params={"limit": "2", **query, **more})
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return items


def screened(service: str, hits: int) -> tuple[History, str, str]:
    """A screening with so many hits, its case released; the screening's and the payment's id."""
    history = History(service, 0)
    screening, payment, case = (history.new_id(k) for k in "abc")
    found = [
        e.ScreeningHit(
            role="payee",
            list_id="ofac-sdn",
            entry_id=str(100 + n),
            entry_name=f"ENTRY {n}",
            matched_name="Bob Tab",
            score_bp=9_000 + n,
        )
        for n in range(hits)
    ]
    shared: dict[str, Any] = {
        "screening_id": screening,
        "payment_id": payment,
        "case_id": case,
        "hits": found,
    }
    history.add(
        screening,
        e.ScreeningCompleted(outcome="hit", list_version="l", matcher="m", threshold_bp=8_500, **shared),
    )
    history.add(case, e.CaseOpened(**shared))
    history.tick()
    history.add(
        case,
        e.CaseDecided(case_id=case, payment_id=payment, decision="release", note="other person"),
        actor="officer",
    )
    return history, screening, payment


async def test_screenings_hits_and_cases(make_views: Make) -> None:
    """A screening shows why; hits are listed one by one and by list entry; a case shows who decided and when."""
    views = await make_views("compliance")
    history, screening, payment = screened(views.service("compliance"), 5)
    await views.publish(history)
    async with views.running("compliance"):
        await views.reached("compliance", history)
        async with (
            asking(views.settings, compliance_routes) as client,
            asking(views.settings, compliance_routes, "globex") as other,
        ):
            body = (await client.get(f"/internal/v1/compliance/screenings/{screening}")).json()
            assert [h["score_bp"] for h in body["hits"]] == [9_000 + n for n in range(5)]
            listed = await all_pages(client, "/compliance/screenings", outcome="hit")
            assert [s["screening_id"] for s in listed] == [screening]
            assert [h["ordinal"] for h in await all_pages(client, "/compliance/hits")] == [4, 3, 2, 1, 0]
            [one] = await all_pages(client, "/compliance/hits", entry_id="103", payment_id=payment)
            assert one["entry_name"] == "ENTRY 3"
            [case] = await all_pages(client, "/compliance/cases", status="released")
            assert (case["decided_by"], case["decided_at"][:10]) == ("officer", "2026-01-01")
            for path in ("screenings", "hits", "cases"):
                assert await all_pages(other, f"/compliance/{path}") == []
            hidden = await other.get(f"/internal/v1/compliance/screenings/{screening}")
            assert hidden.status_code == 404


async def test_operations(make_views: Make) -> None:
    """Every command that led to an event has its row, newest first; a wrong cursor is the caller's mistake."""
    views = await make_views("ledger", "payments", "compliance", "ai", "payment-saga")
    payments, payment = payment_story(views.service("payments"))
    history, _, _ = screened(views.service("compliance"), 1)
    await views.publish(payments, history)
    async with views.running("operations"):
        await views.reached("operations", payments)
        async with asking(views.settings, payment_routes) as client:
            rows = await all_pages(client, "/operations", service=payments.service)
            assert len(rows) == payments.position
            assert [r["created_at"] for r in rows] == sorted((r["created_at"] for r in rows), reverse=True)
            command = payments.events[0].envelope.correlation_id
            [first] = await all_pages(client, "/operations", command_id=command)
            assert first["subject"] == payment
            assert first["first_event"] == "payments.payment-initiated.v1"
            assert (first["events"], first["refusals"], first["actor"]) == (1, 0, "tester")
            for cursor in ("x", "WzFd", "WyJhIiwyLDMsNF0"):
                answer = await client.get("/internal/v1/operations", params={"cursor": cursor})
                assert answer.status_code == 400
