"""The search index on a real Elasticsearch: what can be asked, what is found when it drifts, how it is made anew."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import httpx
from elasticsearch import AsyncElasticsearch

from nexafi.telemetry import prometheus_text
from projections.search.documents import ENTRIES, PAYMENTS
from projections.search.indices import client_of
from projections.search.rebuild import digest, go_back, rebuild, verify
from services.payments.api import routes
from tests.integration.projections.conftest import Make
from tests.integration.projections.test_payments import payment_story
from tests.integration.projections.test_runner import story
from tests.kit.asking import asking
from tests.kit.history import LedgerHistory
from tests.kit.views import until


async def search(client: httpx.AsyncClient, **query: object) -> dict[str, Any]:
    """The answer, which must be one."""
    answer = await client.get("/internal/v1/search", params={k: str(v) for k, v in query.items()})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_search_over_payments_and_entries(make_views: Make) -> None:
    """Free text with mistakes, filters, facets, a histogram, pages by key; nothing of another tenant."""
    views = await make_views("ledger", "payments")
    payments, payment = payment_story(views.service("payments"))
    book = LedgerHistory.begin(views.service("ledger"), 0, 5)
    for n in range(30):
        book.tick(3_600_000_000 * 6)
        book.transfer(1 + n % 2, 3, 100 + n, description=f"invoice {n} Bergstrom", reference=f"inv-{n}")
    book.transfer(1, 2, 10**25, description="too large for a long")
    foreign = LedgerHistory.begin(views.service("ledger"), 1, 3, tenant="globex")
    foreign.transfer(1, 2, 100, description="invoice Bergstrom")
    await views.publish(payments, book, foreign)
    async with views.running("ledger", "payments"), views.mirroring():
        await views.mirrored(PAYMENTS, payments)
        await views.mirrored(ENTRIES, book, foreign)
        async with (
            asking(views.settings, routes) as client,
            asking(views.settings, routes, "globex") as other,
        ):
            found = await search(client, q="bergstorm")  # two letters swapped
            assert (found["total"], found["total_is_exact"]) == (60, True)
            assert all("<em>Bergstrom</em>" in hit for i in found["items"] for hit in i["highlights"])
            assert found["facets"]["side"] == {"debit": 30, "credit": 30}
            assert found["facets"]["kind"] == {"entry": 60}
            assert sum(bar["count"] for bar in found["histogram"]) == 60
            assert len(found["histogram"]) == 8
            assert len((await search(client, q="bergstorm", interval="month"))["histogram"]) == 1
            # Filters: an account's own movements, an amount, a side, a reference, a time.
            mine = await search(
                client, account_id=book.accounts[1], side="debit", amount_min=104, amount_max=110
            )
            assert sorted(i["amount"] for i in mine["items"]) == [104, 106, 108, 110]
            assert (await search(client, reference="inv-7"))["total"] == 2
            assert (await search(client, status="posted,reversed", kind="entry"))["total"] == 62
            late = await search(client, **{"from": mine["items"][0]["created_at"], "side": "credit"})
            assert late["total"] == 21
            assert "amount" not in (await search(client, q="large", side="debit"))["items"][0]
            # The payment, by a party's name, and by its id.
            by_name = (await search(client, q="ada", kind="payment"))["items"]
            assert [(i["id"], i["status"], i["amount"]) for i in by_name] == [(payment, "settled", 1000)]
            assert (await search(client, q=payment))["items"][0]["kind"] == "payment"
            # Pages by key: all, once, in order.
            pages, cursor = [], ""
            while True:
                page = await search(client, q="invoice", limit=7, **({"cursor": cursor} if cursor else {}))
                pages.append([i["id"] for i in page["items"]])
                cursor = page["next_cursor"]
                if cursor is None:
                    break
            assert [len(p) for p in pages] == [7] * 8 + [4]
            assert len({i for p in pages for i in p}) == 60
            assert (await search(other, q="bergstrom"))["total"] == 2
            for wrong in ({"kind": "user"}, {"amount_min": "-1"}, {"interval": "second"}, {"cursor": "x"}):
                assert (await client.get("/internal/v1/search", params=wrong)).status_code == 400


async def corrupt(client: AsyncElasticsearch, name: str, ids: list[str]) -> None:
    """Ten documents changed, five removed, five invented behind the mirror's back."""
    for identifier in ids[:10]:
        await client.update(index=name, id=identifier, doc={"status": "paid twice"})
    for identifier in ids[10:15]:
        await client.delete(index=name, id=identifier)
    for identifier in ids[15:20]:
        source = (await client.get(index=name, id=identifier))["_source"]
        made_up = "f" + identifier[1:]
        await client.index(index=name, id=made_up, document=source | {"id": made_up, "owner": made_up[:36]})
    await client.indices.refresh(index=name)


async def test_drift_is_found_and_mended(make_views: Make) -> None:
    """Twenty documents changed, removed or invented: all are named, while rows go on coming."""
    views = await make_views()
    history = story(views.service("ledger"), 0, transfers=600)
    await views.publish(history)
    client = client_of(views.settings)
    async with views.running("ledger"), views.mirroring():
        await views.mirrored(ENTRIES, history)
        metrics = prometheus_text()
        for name in (
            b'projection_lag_seconds{view="ledger"}',
            b'projection_lag_seconds{view="search-entries"}',
            b"search_behind",
        ):
            assert name in metrics
        before = await verify(views.settings, ENTRIES)
        assert before.equal, before.differences
        assert before.rows > 1_000
        name = ENTRIES.name(views.settings, 1)
        hits = (await client.search(index=name, size=400, sort=["id"], source=False))["hits"]["hits"]
        await corrupt(client, name, [h["_id"] for h in hits[::20]])
        more = history.position
        history.tick()
        history.random_transfers(50, random.Random(1))
        await views.publish(history, after=more)
        began = time.monotonic()
        found = await verify(views.settings, ENTRIES)
        print(f"\nR10 search: {sum(found.counts.values())} of 20 in {time.monotonic() - began:.2f} s")
        assert found.counts == {"search-entries": 20}
        kinds = sorted(d.kind for d in found.differences)
        assert kinds == ["differs"] * 10 + ["extra"] * 5 + ["missing"] * 5
        assert (await rebuild(views.settings, ENTRIES)).version == 2
        await views.mirrored(ENTRIES, history)
        assert (await verify(views.settings, ENTRIES)).equal
        # The way back leads to the index that was kept, as wrong as it was.
        assert (await go_back(views.settings, ENTRIES)).version == 1
        assert (await verify(views.settings, ENTRIES)).counts == {"search-entries": 20}
    await client.close()


async def test_dropped_index_is_made_anew_and_equal(make_views: Make) -> None:
    """The index is deleted under the mirror's hands: it comes back by itself and holds what it held."""
    views = await make_views()
    history = story(views.service("ledger"), 1, transfers=200)
    await views.publish(history)
    client = client_of(views.settings)
    async with views.running("ledger"), views.mirroring():
        await views.mirrored(ENTRIES, history)
        before = str(await digest(views.settings, ENTRIES))
        await client.indices.delete(index=ENTRIES.name(views.settings, 1))
        history.tick()
        history.transfer(1, 2, 3)
        await views.publish(history, after=history.position - 1)
        live = "SELECT version FROM views.versions WHERE view = 'search-entries' AND state = 'live'"
        await until(lambda: views.query(live) == [(2,)])
        await views.mirrored(ENTRIES, history)
        comparison = await verify(views.settings, ENTRIES)
        assert comparison.equal
        assert before.split(":", maxsplit=1)[0] == str(comparison.rows - 2)
    await client.close()


async def test_undone_history_leaves_the_index(make_views: Make) -> None:
    """A restored store tells another story: documents of what never happened are gone."""
    views = await make_views()
    service = views.service("ledger")
    lost = story(service, 0, transfers=100)
    await views.publish(lost)
    async with views.running("ledger"), views.mirroring():
        await views.mirrored(ENTRIES, lost)
        restored = LedgerHistory(service, 0, name="77777777-7777-4777-8777-777777777777")
        restored.ledger_id, restored.accounts = lost.ledger_id, lost.accounts
        restored.now_us, restored.position = lost.now_us + 10**6, 60
        restored.random_transfers(100, random.Random(9))
        await views.publish(restored)
        live = "SELECT version FROM views.versions WHERE view = 'search-entries' AND state = 'live'"
        await until(lambda: views.query(live) == [(2,)])
        await views.mirrored(ENTRIES, restored)
        comparison = await verify(views.settings, ENTRIES)
        assert comparison.equal, comparison.differences
        assert comparison.rows == views.query("SELECT count(*) FROM views.entries")[0][0]


async def test_killed_mirror_loses_and_doubles_nothing(make_views: Make) -> None:
    """SIGKILL again and again in the middle of bulks; the index then says exactly what the rows say."""
    views = await make_views()
    history = LedgerHistory.begin(views.service("ledger"), 0, 50)
    history.random_transfers(6_000, random.Random(5))
    await views.publish(history)
    async with views.running("ledger"):
        await views.reached("ledger", history)
        kills = 0
        while kills < 3:
            before = sum((await views.positions("search-entries")).values())
            process = views.spawn("run_search")
            while sum((await views.positions("search-entries")).values()) == before:
                assert process.poll() is None
                await asyncio.sleep(0.01)
            process.kill()
            process.wait()
            kills += 1
        async with views.mirroring():
            await views.mirrored(ENTRIES, history)
            comparison = await verify(views.settings, ENTRIES)
    assert comparison.equal, comparison.differences[:3]
    assert comparison.rows == 12_000
