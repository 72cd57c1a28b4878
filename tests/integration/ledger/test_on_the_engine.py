"""The ledger behind the real writer and a real store: what only the two together can get wrong."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from events.flight import Committed
from events.migrations import migrate
from events.store.recorder import ShardRecorder, open_datastore
from events.writer import Writer
from nexafi.ids import derived_id
from nexafi.role import Health
from nexafi.settings import Settings
from schemas.common.base import MAX_AMOUNT, Command
from schemas.common.envelope import CommandEnvelope
from schemas.ledger import commands as c
from schemas.ledger import transactions as tx
from services.ledger.domain import LedgerDecider
from services.ledger.holds import expiry_id
from services.ledger.state import State
from tests.kit.scenario import ROOT
from tests.kit.soak import Printed

SHARD = 3
HOUR_US = 3_600_000_000


class Desk:
    """One shard of the ledger: commands in, stored answers out, in batches of the test's choice."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.now_us = time.time_ns() // 1000  # results lie in partitions by month of the real time
        self.answers: dict[str, dict[str, Any]] = {}
        self.offset = 0
        self.writer = self._writer()

    def _writer(self) -> Writer[State]:
        store = open_datastore(self.settings.database, "ledger", pool_size=3)
        return Writer(
            LedgerDecider(),
            ShardRecorder(store, service="ledger"),
            self.settings,
            owner="desk",
            health=Health(),
            publish=self._take_answers,
            clock=lambda: self.now_us,
        )

    def _take_answers(self, committed: Committed) -> None:
        for _, reply in committed.replies:
            self.answers[reply["command_id"]] = reply

    async def restart(self) -> None:
        """A new writer loads what the old one stored."""
        await self.writer.close()
        self.writer = self._writer()
        await self.writer.take([SHARD])

    async def together(self, *commands: Command, ids: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Decide in one batch, under ids of the test's choice or fresh ones; the result or refusal of each."""
        ids = ids or [derived_id(ROOT, self.offset + i) for i in range(len(commands))]
        records = [self._record(command, name) for command, name in zip(commands, ids, strict=True)]
        assert await self.writer.process(records) == {}
        assert await self.writer.settle() == {}
        return [self.answers[each]["result"] for each in ids]

    async def one(self, command: Command) -> dict[str, Any]:
        """Decide one command."""
        (answer,) = await self.together(command)
        return answer

    def _record(self, command: Command, name: str) -> ConsumerRecord[bytes, bytes]:
        envelope = CommandEnvelope(name, command.TYPE, "acme", "tester", "aa", "gw:0", time_us=self.now_us)
        value = command.model_dump_json().encode()
        self.offset += 1
        return ConsumerRecord(
            "ledger.commands",
            SHARD,
            self.offset - 1,
            0,
            0,
            None,
            value,
            None,
            0,
            len(value),
            envelope.headers(),
        )

    @property
    def state(self) -> State:
        """Memory of the shard."""
        return self.writer.shards[SHARD].state

    def dump(self) -> bytes:
        """Memory as bytes."""
        return self.writer.decider.dump(self.state)


@pytest.fixture
async def desk(stack: Settings, database_url: str) -> AsyncIterator[Desk]:
    settings = stack.model_copy(update={"database_url": database_url, "snapshot_every": 5})
    await asyncio.to_thread(migrate, settings, ("ledger",))
    desk = Desk(settings)
    await desk.writer.take([SHARD])
    yield desk
    await desk.writer.close()


async def book(desk: Desk) -> tuple[str, str, str]:
    """A ledger, its bank and Alice, who has 100."""
    ledger = (await desk.one(c.CreateLedger(name="main")))["ledger_id"]
    bank, alice = await desk.together(
        c.OpenAccount(ledger_id=ledger, code="bank", currency="EUR", normal_side="debit"),
        c.OpenAccount(ledger_id=ledger, code="alice", currency="EUR", floor=0),
    )
    ids = ledger, str(bank["account_id"]), str(alice["account_id"])
    assert "transaction_id" in await desk.one(move(*ids, 100))
    return ids


def move(ledger: str, debit: str, credit: str, amount: int) -> c.PostTransaction:
    entries = [
        tx.EntryInput(account_id=debit, side="debit", amount=amount, currency="EUR"),
        tx.EntryInput(account_id=credit, side="credit", amount=amount, currency="EUR"),
    ]
    return c.PostTransaction(ledger_id=ledger, transaction=tx.TransactionInput(entries=entries))


def place(ledger: str, debit: str, credit: str, amount: int, expires_at: int | None = None) -> c.PlaceHold:
    return c.PlaceHold(
        ledger_id=ledger,
        debit_account_id=debit,
        credit_account_id=credit,
        amount=amount,
        currency="EUR",
        expires_at=expires_at,
    )


async def test_what_closed_in_this_batch_or_long_ago_is_known_to_be_closed(desk: Desk) -> None:
    ledger, bank, alice = await book(desk)
    original = (await desk.one(move(ledger, bank, alice, 7)))["transaction_id"]
    hold = (await desk.one(place(ledger, alice, bank, 5)))["hold_id"]
    reverse = c.ReverseTransaction(ledger_id=ledger, transaction_id=original)
    post = c.PostHold(ledger_id=ledger, hold_id=hold)
    first, second, posted, again = await desk.together(reverse, reverse, post, post)
    assert first["reverses"] == original
    assert second["reason"] == "already-reversed"
    assert posted["hold_id"] == hold
    assert again["reason"] == "hold-closed"
    await desk.restart()
    late = await desk.together(reverse, c.VoidHold(ledger_id=ledger, hold_id=hold))
    assert [each["reason"] for each in late] == ["already-reversed", "hold-closed"]


async def test_a_deadline_frees_the_hold_and_a_restart_does_not_forget_it(desk: Desk) -> None:
    ledger, bank, alice = await book(desk)
    deadline = desk.now_us + HOUR_US
    hold = (await desk.one(place(ledger, alice, bank, 60, deadline)))["hold_id"]
    await desk.restart()
    assert desk.writer.decider.next_due(desk.state) == deadline
    assert await desk.writer.run_due() == {}
    assert desk.state.ledgers[ledger].accounts[alice].available == 40
    desk.now_us = deadline
    assert await desk.writer.run_due() == {}
    assert await desk.writer.settle() == {}
    assert desk.state.ledgers[ledger].accounts[alice].available == 100
    assert (await desk.one(c.PostHold(ledger_id=ledger, hold_id=hold)))["reason"] == "hold-expired"
    assert desk.writer.decider.next_due(desk.state) is None


async def test_late_and_repeated_expiries_of_holds_do_nothing(desk: Desk, printed: Printed) -> None:
    """R13: a thousand holds that ended in each of their ways, or are not due; then their expiry comes, and comes again."""
    ledger, bank, alice = await book(desk)
    count, deadline = 1_000, desk.now_us + HOUR_US
    await desk.one(move(ledger, bank, alice, count))
    later = [deadline + HOUR_US * (n % 4 == 3) for n in range(count)]
    placed = await desk.together(*(place(ledger, alice, bank, 1, expires_at) for expires_at in later))
    holds = [answer["hold_id"] for answer in placed]
    posted, voided, expired, waiting = (holds[n::4] for n in range(4))
    await desk.together(*(c.PostHold(ledger_id=ledger, hold_id=h) for h in posted))
    await desk.together(*(c.VoidHold(ledger_id=ledger, hold_id=h) for h in voided))
    desk.now_us = deadline
    while (due := desk.writer.decider.next_due(desk.state)) is not None and due <= desk.now_us:
        assert await desk.writer.run_due() == {}
        assert await desk.writer.settle() == {}
    assert desk.state.ledgers[ledger].accounts[alice].available == 100 + count - len(posted) - len(waiting)
    before, position = desk.dump(), desk.writer.shards[SHARD].position

    told: Counter[str] = Counter()
    for _ in ("late", "again"):
        for group, name in (
            (posted, expiry_id),
            (voided, expiry_id),
            (expired, expiry_id),
            (waiting, strange),
        ):
            late = [c.ExpireHold(ledger_id=ledger, hold_id=h) for h in group]
            answers = await desk.together(*late, ids=[name(h) for h in group])
            told.update(answer.get("reason", "its old answer") for answer in answers)

    quarter = count // 4
    assert told == {
        "hold-closed": 4 * quarter,
        "its old answer": 2 * quarter,
        "internal-command": 2 * quarter,
    }
    assert desk.dump() == before, "money or a hold has moved"
    assert desk.writer.shards[SHARD].position == position, "an event followed"
    printed("R13 holds", late=count, repeated=count, events_that_followed=0)


def strange(hold_id: str) -> str:
    """An id that the timer of this hold never has."""
    return derived_id(hold_id, "expire", "strange")


async def test_amounts_of_38_digits_and_any_history_survive_snapshot_and_tail(desk: Desk) -> None:
    ledger, bank, alice = await book(desk)
    await desk.one(move(ledger, bank, alice, MAX_AMOUNT - 100))
    assert (await desk.one(move(ledger, bank, alice, 1)))["reason"] == "amount-overflow"
    await desk.together(*(place(ledger, alice, bank, 2**70 + n) for n in range(9)))
    before = desk.dump()
    await desk.restart()
    assert desk.dump() == before
    assert desk.writer.shards[SHARD].snapshot_position > 0, "a snapshot was used"
    assert desk.state.ledgers[ledger].accounts[alice].posted == MAX_AMOUNT
