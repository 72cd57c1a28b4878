"""A ledger shard's history as its writer would record it, without a writer: batches, rows, results, snapshots."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from typing import Any

import orjson

from events.chain import GENESIS, encode_row, leaf_hash, link, merkle_root
from events.decider import Accepted, Context, EventMeta
from events.store import reading
from events.store.append import ShardAppend, encode_result
from events.store.heads import Head, read_heads
from events.store.reading import BatchRow, Snapshot
from events.store.recorder import ShardRecorder
from events.store.tables import month_partition
from nexafi.ids import derived_id
from schemas.common.base import Command
from schemas.ledger.commands import CloseAccount, CreateLedger, OpenAccount, PlaceHold, PostTransaction
from services.ledger.domain import LedgerDecider

START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
HISTORY = "5d3f9f0e-8f5b-4c61-9a52-2f1b6f0e7a10"
ROOT = "00000000-0000-5000-8000-000000000000"


@dataclass
class RecordedLedger:
    """Grows a shard by batches of real commands; :meth:`store` appends what is new to a real store."""

    shard: int = 0
    decider: LedgerDecider = field(default_factory=LedgerDecider)
    rows: list[list[bytes]] = field(default_factory=list)
    batches: list[BatchRow] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    ledger_id: str = ""

    def __post_init__(self) -> None:
        self.state = self.decider.initial(self.shard)
        self.chain, self.position, self.now_us, self.commands = GENESIS, 0, START_US, 0
        self._appends: list[ShardAppend] = []

    # ------------------------------------------------------------------ growing

    def batch(self, commands: Sequence[Command]) -> list[dict[str, Any]]:
        """Decide and record commands as one batch, a second after the last; their results."""
        self.now_us += 1_000_000
        first, rows, results, answers = self.position + 1, [], [], []
        for command in commands:
            self.commands += 1
            cid = derived_id(ROOT, self.shard, self.commands)
            ctx = Context(self.now_us, self.shard, cid, "acme", "client:test", cid)
            decision = self.decider.decide(command, self.state, ctx)
            assert isinstance(decision, Accepted), decision
            for stream, version, event in decision.events:
                self.position += 1
                metadata = {"time": self.now_us, "tenant": "acme", "actor": "client:test", "causation": cid}
                rows.append(
                    encode_row(
                        self.shard,
                        self.position,
                        bytes.fromhex(stream.replace("-", "")),
                        version,
                        event.TYPE.encode(),
                        orjson.dumps(metadata),
                        event.to_json(),
                    )
                )
                meta = EventMeta(stream, version, self.now_us, "acme", "client:test", position=self.position)
                self.state = self.decider.evolve(self.state, event, meta)
            results.append(
                encode_result(
                    bytes.fromhex(cid.replace("-", "")), b"\xaa", self.shard, self.position, 0,
                    orjson.dumps(decision.result), self.now_us,
                )
            )  # fmt: skip
            answers.append(decision.result)
        root = merkle_root([leaf_hash(row) for row in rows])
        self.chain = link(self.chain, self.shard, first, self.position, self.now_us, root)
        offset = self.commands - len(commands)
        self.batches.append(
            BatchRow(self.shard, first, self.position, self.now_us, 0, self.commands, root, self.chain)
        )
        self.rows.append(rows)
        self._appends.append(
            ShardAppend(
                self.shard, 0, first, offset, self.position + 1, self.commands, self.now_us, self.chain, root,
                rows, results,
            )
        )  # fmt: skip
        return answers

    def open(self, accounts: int = 6) -> None:
        """A ledger with euro accounts."""
        self.ledger_id = self.batch([CreateLedger(name="main")])[0]["ledger_id"]
        self.accounts += [
            r["account_id"]
            for r in self.batch(
                [
                    OpenAccount(
                        ledger_id=self.ledger_id,
                        code=f"a{i}",
                        currency="EUR",
                        normal_side="debit",
                        name=f"Käse {i}",
                    )
                    for i in range(accounts)
                ]
            )
        ]

    def transfers(self, count: int, random_: random.Random) -> list[str]:
        """A batch of transfers between two accounts each; their ids."""
        commands = []
        for _ in range(count):
            debit, credit = random_.sample(self.accounts, 2)
            commands.append(transfer(self.ledger_id, debit, credit, random_.randint(1, 10_000)))
        return [r["transaction_id"] for r in self.batch(commands)]

    def hold(self, amount: int) -> None:
        """A batch with one hold."""
        debit, credit = self.accounts[:2]
        self.batch(
            [
                PlaceHold(
                    ledger_id=self.ledger_id,
                    debit_account_id=debit,
                    credit_account_id=credit,
                    amount=amount,
                    currency="EUR",
                )
            ]
        )

    def close_a_new_account(self) -> str:
        """Open an account and close it; its id."""
        opened = OpenAccount(ledger_id=self.ledger_id, code="gone", currency="EUR", normal_side="debit")
        account = str(self.batch([opened])[0]["account_id"])
        self.batch([CloseAccount(ledger_id=self.ledger_id, account_id=account)])
        return account

    # ------------------------------------------------------------------ what came of it

    @property
    def head(self) -> Head:
        """The head of now."""
        return Head(self.shard, 0, "", HISTORY, self.position + 1, self.commands, self.now_us, self.chain)

    def history(self) -> list[BatchRow | bytes]:
        """Each batch followed by its rows."""
        out: list[BatchRow | bytes] = []
        for batch, rows in zip(self.batches, self.rows, strict=True):
            out += [batch, *rows]
        return out

    def store(self, recorder: ShardRecorder) -> None:
        """Append what is not yet in the store, and one snapshot of now."""
        with recorder.connection() as conn:
            for statement in month_partition(recorder.service, date(2026, 1, 1)):
                conn.execute(statement)
        for append in self._appends:
            append.epoch = next(h.epoch for h in read_heads(recorder) if h.shard == self.shard)
            recorder.append([append])
        self._appends.clear()
        dump = self.decider.dump(self.state)
        snapshot = Snapshot(
            self.shard, self.position, self.decider.state_version, sha256(dump).digest(), self.chain, dump
        )
        reading.save_snapshot(recorder, snapshot)


def transfer(ledger: str, debit: str, credit: str, amount: int) -> PostTransaction:
    """A command that moves euro cents."""
    legs = [
        {"account_id": debit, "side": "debit", "amount": amount, "currency": "EUR"},
        {"account_id": credit, "side": "credit", "amount": amount, "currency": "EUR"},
    ]
    return PostTransaction.model_validate(
        {"ledger_id": ledger, "transaction": {"entries": legs, "description": "Miete für März"}}
    )


def recorded_ledger(shard: int = 0, batches: int = 6, seed: int = 7) -> RecordedLedger:
    """A ledger with some history: accounts, transfers in batches of 1 to 9, a hold, a closed account."""
    ledger, random_ = RecordedLedger(shard), random.Random(seed)
    ledger.open()
    for _ in range(batches):
        ledger.transfers(random_.randint(1, 9), random_)
    ledger.hold(500)
    ledger.close_a_new_account()
    ledger.transfers(3, random_)
    return ledger
