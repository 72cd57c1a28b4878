"""Balances and restatements over both axes of time, against sums of the same events by brute force."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import psycopg
import pytest

from projections.queries.balances import ONE_BALANCE
from schemas.common.envelope import rfc3339
from schemas.ledger.periods import AdjustmentPosted, PeriodClosed
from services.ledger.api import routes
from tests.integration.projections.conftest import Make
from tests.integration.projections.test_balances import ask, legs, store_batches, summed, told
from tests.kit.asking import asking
from tests.kit.soak import Figure, Printed, figures

pytestmark = pytest.mark.stack
DAY_US = 86_400_000_000
_AT_ONCE = 1_000


def many(query: str) -> str:
    """The query of one balance for rows of questions: the same text, each parameter a column of ``q``."""
    for name, column in (
        ("CAST(:account_id AS uuid)", "q.account_id"),
        ("CAST(:recorded AS int8)", "q.recorded"),
        ("CAST(:at AS int8)", "q.at"),
        (":position", "q.position"),
        (":at", "q.at"),
    ):
        assert name in query, name
        query = query.replace(name, column)
    assert ":" not in query.replace("::", "")
    questions = "unnest(%s::uuid[], %s::int8[], %s::int8[], %s::int8[]) WITH ORDINALITY AS q(account_id, at, position, recorded, n)"
    return f"SELECT ({query}) FROM {questions} ORDER BY q.n"


@figures("balances at two times")
async def test_any_balance_at_any_two_times(make_views: Make, figure: Figure, printed: Printed) -> None:
    """The query that the API asks, for random accounts and pairs of times; brute force adds up every entry."""
    views = await make_views()
    history = told(views.service("ledger"), 1, 1_200)
    await views.publish(history)
    rng, asked = random.Random(11), 0
    entries: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for account, position, _, effective, amount in legs(history):
        entries[account].append((effective, position, amount))
    times = [r.envelope.time_us for r in history.events]
    async with views.running("ledger"):
        await views.reached("ledger", history)
        with psycopg.connect(views.settings.database) as connection:
            while asked < figure["queries"]:
                questions = []
                for _ in range(_AT_ONCE):
                    last = rng.randrange(len(times) + 1)  # everything up to this many events is known
                    while 0 < last < len(times) and times[last] == times[last - 1]:
                        last += 1  # a time is known as a whole
                    at = rng.randrange(times[0] - 11 * DAY_US, times[-1] + 11 * DAY_US)
                    if rng.randrange(4) == 0:
                        at = rng.choice(times) + rng.randrange(-1, 2)  # right at an entry
                    known = times[last - 1] if last else 0
                    questions.append((rng.choice(history.accounts), at, last, known))
                rows = connection.execute(many(ONE_BALANCE), [list(c) for c in zip(*questions, strict=True)])
                for (account, at, position, _), (balance,) in zip(questions, rows.fetchall(), strict=True):
                    plain = sum(n for e, p, n in entries[account] if e <= at and p <= position)
                    assert balance == plain, (account, at, position)
                asked += len(questions)
    printed("balances at two times", entries=sum(map(len, entries.values())), queries=asked, different=0)


async def test_a_restatement_is_what_came_between_two_times_of_knowing(make_views: Make) -> None:
    """By default since the books were last closed; an adjusting entry tells its reason."""
    views = await make_views()
    history = told(views.service("ledger"), 1, 150)
    history.tick()
    until = history.now_us - 5 * DAY_US
    marks = {"soft_until": until, "hard_until": 0}
    history.add(history.ledger_id, PeriodClosed(ledger_id=history.ledger_id, closing="soft", **marks))
    closed_at = history.position
    history.tick()
    adjusted = history.transfer(1, 2, 77, effective_at=until - 1)
    event = AdjustmentPosted(
        ledger_id=history.ledger_id,
        adjustment_id=history.new_id("adjustment"),
        transaction_id=adjusted,
        effective_at=until - 1,
        reason="an invoice was late",
    )
    history.add(event.adjustment_id, event)
    rng = random.Random(4)
    for _ in range(30):
        history.tick()
        debit, credit = rng.sample(range(6), 2)
        history.transfer(
            debit, credit, rng.randrange(1, 100), effective_at=until + rng.randrange(-DAY_US, DAY_US)
        )
    await views.publish(history)
    store_batches(views, history)
    async with views.running("ledger", "accounting"):
        await views.reached("ledger", history)
        await views.reached("accounting", history)
        async with asking(views.settings, routes) as client:
            query = {"at": rfc3339(until - 1)}
            body = await ask(client, history, "/restatement", **query)
            assert body["since"]["positions"] == {f"{history.service}/1": closed_at}
            plain: Counter[str] = Counter()
            for account, position, _, effective, amount in legs(history):
                if position > closed_at and effective < until:
                    plain[account] += amount
            assert {a["account_id"]: a["change"] for a in body["accounts"]} == plain
            for account, change in plain.items():
                before, after = (
                    summed(history, account, until - 1, p) for p in (closed_at, history.position)
                )
                assert after - before == change
            told_of = {t["transaction_id"]: t["reason"] for t in body["transactions"]}
            assert told_of[adjusted] == "an invoice was late"
            assert sum(reason is not None for reason in told_of.values()) == 1
            assert body["more"] is False
            middle = history.events[60].envelope
            since = {"since": rfc3339(middle.time_us), "known_at": body["known_at"]["token"]}
            body = await ask(client, history, "/restatement", **query, **since)
            for account in body["accounts"]:
                mine = account["account_id"]
                before, after = (
                    summed(history, mine, until - 1, p) for p in (middle.position, history.position)
                )
                assert account["change"] == after - before
            periods = await ask(client, history, "/periods")
            assert periods["items"][0]["soft_until"] == rfc3339(until)
            assert [a["reason"] for a in (await ask(client, history, "/adjustments"))["items"]] == [
                "an invoice was late"
            ]
            url = f"/internal/v1/ledgers/{history.ledger_id}/restatement"
            for wrong in (
                {"since": rfc3339(history.now_us), "known_at": rfc3339(middle.time_us)},
                {"since": "x"},
            ):
                answer = await client.get(url, params=wrong)
                assert (answer.status_code, answer.json()["pointer"]) == (400, "?since")
