"""What the rules of the ledger cost by themselves: no Kafka, no PostgreSQL, one core.

``figures()`` measures; ``python -m benchmarks.ledger_domain`` prints. Times are the best of several passes, in
microseconds for one transaction of two entries unless the name says seconds. "Hot" moves everything between two
accounts, "cold" between random ones of 100,000.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from events.decider import Accepted, Context, EventMeta
from nexafi.ids import derived_id
from nexafi.memory import settle_heap
from schemas.common.base import Command
from schemas.ledger.commands import CreateLedger, OpenAccount, PostBatch, PostTransaction
from schemas.ledger.transactions import EntryInput, TransactionInput
from services.ledger.domain import LedgerDecider
from services.ledger.state import State

SHARD = 3
START_US = 1_767_225_600_000_000
ACCOUNTS = 100_000
PASSES = 5
_ROOT = "00000000-0000-5000-8000-000000000000"
_META = EventMeta("", 1, START_US, "acme", "bench")


def figures(*, accounts: int = ACCOUNTS, transactions: int = 10_000) -> dict[str, float]:
    """All figures by name."""
    decider = LedgerDecider()
    state, ledger_id, ids = filled(decider, accounts)
    hot = transfers(ledger_id, ids[:2], transactions)
    cold = transfers(ledger_id, ids, transactions)
    batches = in_batches(ledger_id, cold, 100)
    settle_heap()  # as the writer does after loading
    hot_us = best(lambda: write(decider, state, hot)) / transactions * 1e6
    cold_us = best(lambda: write(decider, state, cold)) / transactions * 1e6
    batch_us = best(lambda: write(decider, state, batches)) / transactions * 1e6
    events = [_accepted(decider, state, c).events[0].event for c in hot[:1_000]]
    to_json_us = best(lambda: [e.to_json() for e in events]) / len(events) * 1e6
    data = decider.dump(state)
    dump_s = best(lambda: decider.dump(state))
    load_s = best(lambda: decider.load(data))
    check_s = best(lambda: decider.check(state))
    return {
        "hot_us": hot_us,
        "cold_us": cold_us,
        "batch_of_100_us": batch_us,
        "to_json_us": to_json_us,
        f"dump_{accounts}_accounts_s": dump_s,
        f"load_{accounts}_accounts_s": load_s,
        f"check_{accounts}_accounts_s": check_s,
        "snapshot_bytes_per_account": len(data) / accounts,
    }


def write(decider: LedgerDecider, state: State, commands: Sequence[Command]) -> None:
    """Decide, check and apply, as the writer does."""
    decide, check, evolve = decider.decide, decider.check_events, decider.evolve
    for number, command in enumerate(commands):
        ctx = Context(START_US, SHARD, f"{number:08x}-0000-5000-8000-000000000000", "acme", "bench")
        decision = decide(command, state, ctx)
        assert isinstance(decision, Accepted)
        check(decision.events)
        for _, _, event in decision.events:
            evolve(state, event, _META)


def filled(decider: LedgerDecider, accounts: int) -> tuple[State, str, list[str]]:
    """A ledger with so many accounts; its id and theirs."""
    state = decider.initial(SHARD)
    ledger_id = _apply(decider, state, CreateLedger(name="bench"), 0)["ledger_id"]
    ids = [
        _apply(decider, state, OpenAccount(ledger_id=ledger_id, code=f"a{i}", currency="EUR"), i + 1)
        for i in range(accounts)
    ]
    return state, ledger_id, [each["account_id"] for each in ids]


def transfers(ledger_id: str, ids: Sequence[str], count: int) -> list[Command]:
    """So many transfers between random accounts, decoded from JSON as the writer's are."""
    draw = random.Random(1)
    out: list[Command] = []
    for _ in range(count):
        source, target = draw.sample(ids, 2)
        entries = [
            EntryInput(account_id=source, side="debit", amount=5, currency="EUR"),
            EntryInput(account_id=target, side="credit", amount=5, currency="EUR"),
        ]
        command = PostTransaction(ledger_id=ledger_id, transaction=TransactionInput(entries=entries))
        out.append(PostTransaction.model_validate_json(command.model_dump_json()))
    return out


def in_batches(ledger_id: str, commands: Sequence[Command], size: int) -> list[Command]:
    """The same transactions in ``PostBatch`` commands of ``size``."""
    single = [c.transaction for c in commands if isinstance(c, PostTransaction)]
    return [
        PostBatch(ledger_id=ledger_id, transactions=single[i : i + size]) for i in range(0, len(single), size)
    ]


def best(work: Callable[[], object]) -> float:
    """Seconds of processor time of the fastest of several passes."""
    times = []
    for _ in range(PASSES):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def _accepted(decider: LedgerDecider, state: State, command: Command) -> Accepted:
    decision = decider.decide(command, state, Context(START_US, SHARD, _ROOT, "acme", "bench"))
    assert isinstance(decision, Accepted)
    return decision


def _apply(decider: LedgerDecider, state: State, command: Command, number: int) -> dict[str, str]:
    ctx = Context(START_US, SHARD, derived_id(_ROOT, number), "acme", "bench")
    decision = decider.decide(command, state, ctx)
    assert isinstance(decision, Accepted)
    for emit in decision.events:
        decider.evolve(state, emit.event, _META)
    return decision.result


if __name__ == "__main__":
    for name, value in figures().items():
        print(f"{name:32} {value:10.3f}")
