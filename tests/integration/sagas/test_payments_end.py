"""Payments on real processes while steps fail and processes die: each ends once, with its money right and no hold left."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from events.producer import CommandProducer
from nexafi.ids import derived_id, shard_of
from schemas.common.envelope import CommandEnvelope
from schemas.sagas.commands import TimerFired
from tests.kit.mortal import Mortal, shown
from tests.kit.patient_book import Book, assert_conserved_at_every_position, assert_stores_verify, full_read
from tests.kit.soak import Figure, Printed, figures

pytestmark = pytest.mark.kill
#: A promise of R12: so long after the last fault everything has ended.
HEALED_S = 60.0
CUSTOMERS = 24
#: On the list of tests/data/ofac: a payment to him is parked until an officer decides.
LISTED = "Jorge Milton Cifuentes Villa"


@dataclass
class Fate:
    """What the stores say became of payments and holds of one ledger."""

    initiated: dict[str, dict[str, Any]] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    refunds: dict[str, int] = field(default_factory=dict)  # under way
    refunded: Counter[str] = field(default_factory=Counter)
    posted: Counter[str] = field(default_factory=Counter)  # payment -> transactions that posted its hold
    open_holds: dict[str, str] = field(default_factory=dict)

    @property
    def under_way(self) -> list[str]:
        """Payments and refunds without an end."""
        return [p for p in self.initiated if p not in self.settled and p not in self.failed] + list(
            self.refunds
        )


def fate_of(platform: Mortal, ledger: str) -> Fate:
    """Fold the histories of payments and ledger."""
    fate = Fate()
    for topic, state in platform.query("SELECT topic, state FROM payments.events ORDER BY shard, position"):
        d = orjson.loads(state)
        if topic == "payments.payment-initiated.v1" and d["ledger_id"] == ledger:
            fate.initiated[d["payment_id"]] = d
        if d.get("payment_id") not in fate.initiated:
            continue
        match topic:
            case "payments.payment-settled.v1":
                assert d["payment_id"] not in fate.failed
                fate.settled.add(d["payment_id"])
            case "payments.payment-failed.v1":
                assert d["payment_id"] not in fate.settled
                fate.failed[d["payment_id"]] = d["outcome"]
            case "payments.refund-requested.v1":
                fate.refunds[d["refund_id"]] = d["amount"]
            case "payments.refund-settled.v1":
                fate.refunded[d["payment_id"]] += fate.refunds.pop(d["refund_id"])
            case "payments.refund-failed.v1":
                del fate.refunds[d["refund_id"]]
    for topic, stream, state in platform.query(
        "SELECT topic, originator_id::text, state FROM ledger.events ORDER BY shard, position"
    ):
        d = orjson.loads(state)
        if d.get("ledger_id") != ledger:  # a refusal has none
            continue
        match topic:
            case "ledger.hold-placed.v1":
                fate.open_holds[stream] = d["reference"]
            case "ledger.hold-posted.v1":
                fate.posted[fate.open_holds.pop(stream)] += 1
            case "ledger.hold-voided.v1" | "ledger.hold-expired.v1":
                del fate.open_holds[stream]
    return fate


def assert_right(book: Book, fate: Fate) -> None:
    """Everything has ended, no hold is left, and exactly the settled payments moved money."""
    assert fate.under_way == []
    assert fate.open_holds == {}
    assert set(fate.posted) == fate.settled, "money moved without a settled payment, or the reverse"
    assert set(fate.posted.values()) <= {1}, "a payment moved money twice"
    for payment_id, refunded in fate.refunded.items():
        assert payment_id in fate.settled
        assert refunded <= fate.initiated[payment_id]["amount"], "refunded more than was captured"
    balances: Counter[str] = Counter()
    for (state,) in book.platform.query(
        "SELECT state FROM ledger.events WHERE topic = 'ledger.transaction-posted.v1'"
    ):
        for entry in orjson.loads(state)["entries"]:
            balances[entry["account_id"]] += entry["amount"] * (1 if entry["side"] == "credit" else -1)
    expected: Counter[str] = Counter(dict.fromkeys(book.accounts[1:], book.funds))
    expected[book.accounts[0]] = -book.funds * (len(book.accounts) - 1)
    for payment_id in fate.settled:
        d = fate.initiated[payment_id]
        kept = d["amount"] - fate.refunded[payment_id]
        expected[d["payer"]["account_id"]] -= kept
        expected[d["payee"]["account_id"]] += kept
    assert {a: balances[a] for a in book.accounts} == {a: expected[a] for a in book.accounts}


class Callers:
    """Pays, cancels, asks for refunds, and decides cases, as people do meanwhile."""

    def __init__(self, book: Book, seed: int) -> None:
        self.book = book
        self.rng = random.Random(seed)
        self.over = False

    async def pay(self, number: int) -> None:
        """One payment, of which some are too large, some to a listed name, some cancelled, some refunded."""
        book, rng = self.book, self.rng
        payer, payee = rng.sample(range(1, CUSTOMERS + 1), 2)
        amount = book.funds * 2 if rng.random() < 0.03 else rng.randint(10, 400)
        name = LISTED if rng.random() < 0.04 else f"Bob Miller {number % 17}"
        payment_id = await book.pay(payer, payee, amount, f"p{number}", name)
        if rng.random() < 0.15:
            await asyncio.sleep(rng.uniform(0, 1.0))
            await book.sure(f"/v1/payments/{payment_id}/cancel", {"reason": "changed my mind"}, f"c{number}")
        if rng.random() < 0.2:
            await asyncio.sleep(rng.uniform(0.5, 3.0))
            for part in range(2):
                body = {"amount": max(1, amount * 6 // 10)}
                await book.sure(f"/v1/payments/{payment_id}/refunds", body, f"r{number}-{part}")

    async def decide_cases(self) -> None:
        """The officers: release half of what is open, block the other half."""
        decided: set[str] = set()
        while not self.over:
            rows = await asyncio.to_thread(
                self.book.platform.query,
                "SELECT state FROM compliance.events WHERE topic = 'compliance.screening-completed.v1'",
            )
            cases = {c for (state,) in rows if (c := orjson.loads(state).get("case_id"))} - decided
            for case in cases:
                body = {"decision": self.rng.choice(["release", "block"]), "note": "looked at"}
                await self.book.sure(f"/v1/compliance/cases/{case}/decision", body, f"case-{case}")
                decided.add(case)
            await asyncio.sleep(0.3)


@figures("R12")
async def test_every_payment_ends_and_leaves_no_hold(book: Book, figure: Figure, printed: Printed) -> None:
    """R12: a fifth of the sagas' steps fail, every role is killed now and then; after that all end within a minute."""
    platform = book.platform
    await book.open_accounts(CUSTOMERS, 50_000)
    platform.trouble.touch()
    before = dict(platform.kills)
    people = Callers(book, 12)
    officers = asyncio.create_task(people.decide_cases())
    numbers = iter(range(figure["sagas"]))

    async def client() -> None:
        for number in numbers:
            await people.pay(number)

    clients = asyncio.gather(*(client() for _ in range(24)))
    await platform.slaughter(random.Random(12), figure["kills"])
    await clients
    lost = sum(n for s in ("ledger", "payments", "ai", "compliance") for (n,) in platform.query(
        f"SELECT count(*) FROM {s}.dead_letters WHERE error = 'LostCommandError'"
    ))  # fmt: skip
    platform.trouble.unlink()
    await asyncio.to_thread(platform.wait_ready)
    healed = time.monotonic()
    fate = await asyncio.to_thread(fate_of, platform, book.ledger)
    while fate.under_way or fate.open_holds:
        waited = time.monotonic() - healed
        assert waited < HEALED_S, (
            f"{len(fate.under_way)} have not ended, {len(fate.open_holds)} holds are open"
        )
        await asyncio.sleep(0.5)
        fate = await asyncio.to_thread(fate_of, platform, book.ledger)
    took = time.monotonic() - healed
    people.over = True
    await officers
    assert len(fate.initiated) == figure["sagas"]
    assert_right(book, fate)
    full_read(platform.settings)
    assert_conserved_at_every_position(platform.settings)
    assert_stores_verify(platform.settings, "ledger", "payments", "payment-saga", "compliance", "ai")
    ends = Counter(fate.failed.values()) + Counter({"settled": len(fate.settled)})
    assert ends["settled"] > figure["sagas"] // 5
    assert lost > 0, "no step was lost"
    printed(
        "R12",
        sagas=figure["sagas"],
        ended=shown(ends),
        refunds_settled=sum(1 for n in fate.refunded.values() if n),
        commands_lost=lost,
        killed=shown({n: k - before.get(n, 0) for n, k in platform.kills.items() if k > before.get(n, 0)}),
        last_ended_after_healing_s=round(took, 1),
        open_holds=0,
    )


async def settled_payments(book: Book, count: int, amount: int) -> list[str]:
    """So many payments that have settled."""
    made = [await book.pay(1, 2, amount, f"pay-{i}") for i in range(count)]
    deadline = time.monotonic() + HEALED_S
    while (fate := fate_of(book.platform, book.ledger)).under_way:
        assert time.monotonic() < deadline, fate.under_way
        await asyncio.sleep(0.3)
    assert fate.settled == set(made), fate.failed
    return made


async def test_fifty_refunds_at_once_never_pass_what_was_captured(book: Book) -> None:
    await book.open_accounts(2, 50_000)
    (payment_id,) = await settled_payments(book, 1, 1_000)
    path = f"/v1/payments/{payment_id}/refunds"
    answers = await asyncio.gather(*(book.sure(path, {"amount": 70}, f"refund-{i}") for i in range(50)))
    assert Counter(a.status for a in answers)[201] == 1_000 // 70
    refused = {a.problem for a in answers if a.status != 201}
    assert refused == {"refund-exceeds-captured"}, refused
    deadline = time.monotonic() + HEALED_S
    while (fate := fate_of(book.platform, book.ledger)).under_way:
        assert time.monotonic() < deadline, fate.under_way
        await asyncio.sleep(0.3)
    assert fate.refunded[payment_id] == 980
    assert_right(book, fate)


async def test_a_cancellation_that_races_the_posting_ends_in_exactly_one_of_them(book: Book) -> None:
    await book.open_accounts(CUSTOMERS, 50_000)
    rng = random.Random(7)

    async def race(number: int) -> tuple[str, int]:
        payment_id = await book.pay(1 + number % 12, 13 + number % 12, 100, f"race-{number}")
        await asyncio.sleep(rng.uniform(0, 1.5) * rng.random())
        answer = await book.sure(f"/v1/payments/{payment_id}/cancel", {"reason": "no"}, f"stop-{number}")
        return payment_id, answer.status

    answered = dict(await asyncio.gather(*(race(n) for n in range(40))))
    deadline = time.monotonic() + HEALED_S
    while (fate := fate_of(book.platform, book.ledger)).under_way or fate.open_holds:
        assert time.monotonic() < deadline, fate.under_way
        await asyncio.sleep(0.3)
    assert_right(book, fate)
    assert set(fate.failed.values()) <= {"cancelled"}
    assert len(fate.settled) + len(fate.failed) == 40
    told_too_late = {p for p, status in answered.items() if status != 200}
    assert told_too_late <= fate.settled, (
        "a payment was cancelled although its caller was told that it is too late"
    )


@figures("R13")
async def test_late_and_repeated_timeouts_of_sagas_do_nothing(
    book: Book, figure: Figure, printed: Printed
) -> None:
    """R13: timers of steps long past, under ids that the engine does not know, and each of them again."""
    await book.open_accounts(2, 50_000)
    payments = await settled_payments(book, 10, 5)
    platform = book.platform
    services = ("ledger", "payments", "payment-saga", "ai", "compliance")
    tables = [service.replace("-", "_") for service in services]
    counts = " + ".join(f"(SELECT count(*) FROM {t}.events)" for t in tables)
    before = platform.query(f"SELECT {counts}")
    producer = CommandProducer(platform.settings)
    await producer.start()
    sent = set()
    for _ in ("late", "again"):
        for number in range(figure["timeouts"]):
            payment_id = payments[number % len(payments)]
            step = number // len(payments)
            cid = derived_id(payment_id, "a late timer", step)
            sent.add(cid)
            envelope = CommandEnvelope(
                cid,
                TimerFired.TYPE,
                "t",
                "system:payment-saga",
                saga_id=payment_id,
                correlation_id=payment_id,
            )
            data = TimerFired(saga_id=payment_id, timer="step", step=step).model_dump_json().encode()
            await producer.send("payment-saga", shard_of(payment_id), envelope, data)
    await producer.stop()
    deadline = time.monotonic() + HEALED_S
    query = "SELECT count(*) FROM payment_saga.command_results WHERE command_id = ANY(%s::uuid[])"
    while platform.query(query, list(sent))[0][0] < len(sent):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    await asyncio.sleep(1.0)
    assert platform.query(f"SELECT {counts}") == before
    assert_right(book, fate_of(platform, book.ledger))
    printed("R13", late=len(sent), repeated=figure["timeouts"], events_that_followed=0)
