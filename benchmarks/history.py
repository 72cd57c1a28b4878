"""Replaying and verifying what a store holds: how fast, and does it give what memory, snapshots and views say?"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from benchmarks.installation import Installation
from cli.deciders import decider_of
from events.loading import load_shard
from events.store import reading
from events.store.heads import read_heads
from events.store.recorder import ShardRecorder, open_datastore
from nexafi.settings import Settings
from services.ledger.state import State


@dataclass
class Replay:
    """The ledger's shards made anew from their first event."""

    events: int = 0
    seconds: float = 0.0
    #: Shard -> digest of the state after all events.
    replayed: dict[int, str] = field(default_factory=dict)
    #: Shard -> digest of the state that a writer would start with: its snapshot and the events after it.
    from_snapshot: dict[int, str] = field(default_factory=dict)
    #: Snapshots, made by writers while they ran, that took part.
    snapshots: int = 0
    open_holds: int = 0
    #: Account -> balance on its normal side.
    balances: dict[str, int] = field(default_factory=dict)


def replay(settings: Settings) -> Replay:
    """Replay every shard of the ledger, and load it once more as a writer does."""
    decider = decider_of("ledger")
    recorder = ShardRecorder(open_datastore(settings.database, "ledger"), service="ledger")
    found = Replay()
    try:
        for head in read_heads(recorder):
            begun = time.perf_counter()
            whole = load_shard(recorder, decider, head, use_snapshot=False)
            found.seconds += time.perf_counter() - begun
            found.events += whole.replayed
            found.replayed[head.shard] = _digest(decider, whole.state)
            short = load_shard(recorder, decider, head)
            found.snapshots += short.snapshot_position > 0
            found.from_snapshot[head.shard] = _digest(decider, short.state)
            found.balances |= _balances(whole.state)
            found.open_holds += sum(len(ledger.holds) for ledger in whole.state.ledgers.values())
    finally:
        recorder.datastore.close()
    return found


def keep_snapshots(settings: Settings) -> int:
    """Snapshots of the ledger that are stored."""
    recorder = ShardRecorder(open_datastore(settings.database, "ledger"), service="ledger")
    try:
        version = decider_of("ledger").state_version
        return sum(
            reading.latest_snapshot(recorder, head.shard, version, head.next_position - 1) is not None
            for head in read_heads(recorder)
        )
    finally:
        recorder.datastore.close()


def _digest(decider: Any, state: Any) -> str:
    return sha256(decider.dump(state)).hexdigest()


def _balances(state: State) -> dict[str, int]:
    return {a.id: a.posted for ledger in state.ledgers.values() for a in ledger.accounts.values()}


@dataclass(frozen=True, slots=True)
class Verification:
    """What ``nexafi audit verify`` said."""

    events: int
    seconds: float
    problems: list[str]

    @property
    def per_s(self) -> float:
        """Events a second, the start of the process included."""
        return self.events / self.seconds


def verify(installation: Installation, *services: str) -> Verification:
    """Run ``nexafi audit verify`` on the stores of ``services`` (all without), as an auditor would."""
    options = [part for service in services for part in ("--service", service)]
    begun = time.perf_counter()
    done = installation.command("audit", "verify", "--json", *options, check=False)
    took = time.perf_counter() - begun
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    shards = [r for r in reports if "shard" in r]
    problems = [f"{r['service']}/{r['shard']}: {r['problem']}" for r in shards if r.get("problem")]
    if done.returncode != 0 and not problems:
        problems = [f"nexafi audit verify ended with {done.returncode}: {done.stderr[-500:]}"]
    if not shards:
        problems.append("nexafi audit verify reported no shard")
    return Verification(sum(r["events"] for r in shards), took, problems)
