"""Real ``<service>.events`` records without a writer: what a relay publishes for a history made up by a test.

A :class:`History` numbers events as a shard does and keeps them, so that an oracle can fold the same events
that a projection reads from Kafka.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import NAMESPACE_URL, uuid5

from aiokafka import AIOKafkaProducer

from events.producer import new_producer
from events.topics import events_topic
from nexafi.ids import make_id
from nexafi.settings import Settings
from schemas.common.base import Event
from schemas.common.envelope import EventEnvelope
from schemas.ledger.events import (
    AccountOpened,
    Entry,
    HoldPlaced,
    HoldPosted,
    HoldVoided,
    LedgerCreated,
    TransactionPosted,
)

START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


@dataclass
class Recorded:
    """An event with its envelope, ready to be published."""

    envelope: EventEnvelope
    event: Event
    data: bytes


@dataclass
class History:
    """One shard's history of one service."""

    service: str
    shard: int
    tenant: str = "acme"
    name: str = ""
    now_us: int = START_US
    position: int = 0
    events: list[Recorded] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = self.name or str(uuid5(NAMESPACE_URL, f"{self.service}/{self.shard}"))

    def new_id(self, kind: str) -> str:
        """An id on this shard."""
        return make_id(self.now_us, self.shard, f"{self.service}/{self.shard}/{self.position}", kind)

    def add(
        self, stream: str, event: Event, *, type_: str | None = None, saga_id: str = "", actor: str = "tester"
    ) -> Recorded:
        """Append an event; its position follows the last one's."""
        self.position += 1
        version = self.versions[stream] = self.versions.get(stream, 0) + 1
        command = str(uuid5(NAMESPACE_URL, f"{self.name}/{self.position}"))
        envelope = EventEnvelope(
            str(uuid5(NAMESPACE_URL, f"event/{self.name}/{self.position}")),
            type_ or event.TYPE,
            f"nexafi/{self.service}",
            stream,
            self.now_us,
            self.tenant,
            actor,
            self.name,
            self.shard,
            self.position,
            version,
            command,
            command,
            "",
            saga_id,
        )
        recorded = Recorded(envelope, event, event.to_json())
        self.events.append(recorded)
        return recorded

    def tick(self, us: int = 1000) -> None:
        """Time goes on; events between two ticks have the same time, as those of one batch have."""
        self.now_us += us


class LedgerHistory(History):
    """A ledger with accounts, transfers between them and holds."""

    ledger_id: str
    accounts: list[str]

    @classmethod
    def begin(cls, service: str, shard: int, accounts: int, *, tenant: str = "acme") -> LedgerHistory:
        """A ledger with so many EUR accounts, of which the first few are debit-normal."""
        history = cls(service, shard, tenant)
        history.ledger_id = history.new_id("ledger")
        history.add(history.ledger_id, LedgerCreated(ledger_id=history.ledger_id, name="main"))
        history.accounts = []
        for n in range(accounts):
            account = history.new_id("account")
            history.accounts.append(account)
            history.add(
                account,
                AccountOpened(
                    ledger_id=history.ledger_id,
                    account_id=account,
                    code=f"acc-{n}",
                    currency="EUR",
                    normal_side="debit" if n % 7 == 0 else "credit",
                    name=f"Account {n}",
                ),
            )
        return history

    def transfer(
        self,
        debit: int,
        credit: int,
        amount: int,
        *,
        effective_at: int | None = None,
        hold_id: str | None = None,
        reference: str | None = None,
        description: str = "transfer",
    ) -> str:
        """Move ``amount`` between accounts by their number. The transaction's id."""
        transaction = self.new_id("transaction")
        legs = [
            Entry.trusted({"account_id": self.accounts[n], "side": side, "amount": amount, "currency": "EUR"})
            for n, side in ((debit, "debit"), (credit, "credit"))
        ]
        event = TransactionPosted.trusted(
            {
                "ledger_id": self.ledger_id,
                "transaction_id": transaction,
                "entries": legs,
                "effective_at": self.now_us if effective_at is None else effective_at,
                "reference": reference,
                "description": description,
                "hold_id": hold_id,
                "reverses": None,
                "metadata": {},
            }
        )
        self.add(transaction, event)
        return transaction

    def hold(self, debit: int, credit: int, amount: int) -> str:
        """Place a hold."""
        hold = self.new_id("hold")
        self.add(
            hold,
            HoldPlaced(
                ledger_id=self.ledger_id,
                hold_id=hold,
                debit_account_id=self.accounts[debit],
                credit_account_id=self.accounts[credit],
                amount=amount,
                currency="EUR",
            ),
        )
        return hold

    def post_hold(
        self, hold: str, debit: int, credit: int, amount: int, remaining: int = 0, released: int = 0
    ) -> str:
        """Post a hold as the ledger does: the hold first, then the transaction."""
        self.position += 1  # the transaction's id is made before its position is known
        transaction = self.new_id("transaction")
        self.position -= 1
        self.add(
            hold,
            HoldPosted(
                ledger_id=self.ledger_id,
                hold_id=hold,
                transaction_id=transaction,
                amount=amount,
                remaining=remaining,
                released=released,
            ),
        )
        assert self.transfer(debit, credit, amount, hold_id=hold) == transaction
        return transaction

    def void_hold(self, hold: str, released: int) -> None:
        """Void a hold."""
        self.add(hold, HoldVoided(ledger_id=self.ledger_id, hold_id=hold, released=released))

    def random_transfers(self, count: int, rng: random.Random, *, batch: int = 200) -> None:
        """Transfers between random accounts; time goes on after each ``batch``."""
        pick = rng.randrange
        size = len(self.accounts)
        for n in range(count):
            if n % batch == 0:
                self.tick()
            debit = pick(size)
            credit = (debit + 1 + pick(size - 1)) % size
            self.transfer(debit, credit, 1 + pick(10_000))


async def publish(
    settings: Settings, service: str, recorded: Iterable[Recorded], producer: AIOKafkaProducer | None = None
) -> None:
    """Send events to ``<service>.events`` as the relay does, in order for each shard; returns when all are there."""
    own = producer is None
    out = producer or new_producer(settings, "history")
    if own:
        await out.start()
    try:
        topic = events_topic(service)
        builders: dict[int, object] = {}
        deliveries = []
        for item in recorded:
            shard = item.envelope.shard
            headers = item.envelope.headers()
            while True:
                builder = builders.get(shard)
                if builder is None:
                    builder = builders[shard] = out.create_batch()
                done = builder.append(  # type: ignore[attr-defined]
                    timestamp=item.envelope.time_us // 1000,
                    key=item.envelope.subject.encode(),
                    value=item.data,
                    headers=headers,
                )
                if done is not None:
                    break
                builder.close()  # type: ignore[attr-defined]
                deliveries.append(await out.send_batch(builder, topic, partition=shard))
                del builders[shard]
        for shard, builder in builders.items():
            builder.close()  # type: ignore[attr-defined]
            deliveries.append(await out.send_batch(builder, topic, partition=shard))
        for delivery in deliveries:
            await delivery
    finally:
        if own:
            await out.stop()
