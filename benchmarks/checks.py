"""After every run: is all the money there, and does history say what everybody else says?

Gathering the facts and judging them are apart, so that tests can plant each kind of loss in the facts and see it
found. A run whose facts are not right fails, whatever its figures are.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.history import Replay, Verification, replay, verify
from benchmarks.installation import Installation
from benchmarks.stored import POSTED, Store

_VIEW_TIMEOUT_S: Final = 300.0
_SHOWN: Final = 5


@dataclass
class Facts:
    """What was found after a run."""

    #: Transfers that were acknowledged, or are known to have been sent.
    acknowledged: int
    #: Transactions that the store has posted since the run began, by its own count.
    posted: int
    #: Acknowledged transactions that the store does not have (a few of them).
    lost: list[str] = field(default_factory=list)
    #: ``shard/currency`` -> debits minus credits of all stored entries.
    sums: Mapping[str, int] = field(default_factory=dict)
    replay: Replay = field(default_factory=Replay)
    #: Account -> balance in the projection; ``None`` when no projection ran.
    projected: Mapping[str, int] | None = None
    #: Whether the projection had still not taken in everything when nobody waited any longer.
    behind: bool = False
    #: Events that were published, and committed; ``None`` when nobody counted.
    published: tuple[int, int] | None = None
    verification: Verification | None = None


def judge(facts: Facts) -> list[str]:
    """Everything that is wrong, in words; nothing when all is well."""
    wrong: list[str] = []
    if facts.lost:
        wrong.append(f"{len(facts.lost)} acknowledged transfers are not in the store: {_some(facts.lost)}")
    if facts.posted != facts.acknowledged:
        wrong.append(f"{facts.acknowledged} transfers were acknowledged and {facts.posted} are stored")
    if not facts.sums:
        wrong.append("the store has no entries to sum")
    wrong += [f"{place}: debits minus credits are {total}" for place, total in facts.sums.items() if total]
    wrong += _digests(facts.replay)
    if facts.behind:
        wrong.append(f"the projection was behind {_VIEW_TIMEOUT_S:.0f} s after the last load")
    if facts.projected is not None:
        wrong += _projection(facts.replay.balances, facts.projected)
    if facts.published is not None and facts.published[0] != facts.published[1]:
        wrong.append(f"{facts.published[0]} events were published and {facts.published[1]} committed")
    if facts.verification is not None:
        wrong += facts.verification.problems
        if facts.verification.events < facts.posted:
            wrong.append(f"{facts.verification.events} events were verified, fewer than were posted")
    return wrong


def words(facts: Facts) -> dict[str, object]:
    """What was compared, for JSON: a check that compared nothing should be seen to have compared nothing."""
    return {
        "transfers acknowledged": facts.acknowledged,
        "transfers stored": facts.posted,
        "sums": dict(facts.sums),
        "events replayed": facts.replay.events,
        "shards with the same digest from a writer's snapshot": facts.replay.snapshots,
        "balances compared with the projection": None if facts.projected is None else len(facts.projected),
        "events verified": None if facts.verification is None else facts.verification.events,
        "open holds": facts.replay.open_holds,
    }


def _digests(found: Replay) -> list[str]:
    if not found.replayed:
        return ["nothing was replayed"]
    wrong = []
    for shard, digest in found.replayed.items():
        if found.from_snapshot.get(shard) != digest:
            wrong.append(f"shard {shard}: full replay and snapshot with its tail differ")
    if found.open_holds:
        wrong.append(f"{found.open_holds} holds are open although every payment has ended")
    return wrong


def _projection(replayed: Mapping[str, int], projected: Mapping[str, int]) -> list[str]:
    differ = [a for a in replayed if projected.get(a) != replayed[a]]
    extra = [a for a in projected if a not in replayed]
    wrong = []
    if differ:
        wrong.append(f"{len(differ)} balances of the projection are not those of history: {_some(differ)}")
    if extra:
        wrong.append(f"the projection has {len(extra)} accounts that history does not: {_some(extra)}")
    return wrong


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN])


def gather(
    installation: Installation,
    *,
    acknowledged: int,
    posted_before: int,
    transactions: Iterable[str] = (),
    projection: bool,
    published: tuple[int, int] | None = None,
    services: tuple[str, ...] = (),
) -> Facts:
    """Ask the store, replay it, verify it, and ask the projection (which is waited for)."""
    store = Store(installation.settings)
    try:
        facts = Facts(acknowledged, store.count(POSTED) - posted_before, published=published)
        facts.lost = store.missing(transactions)
        facts.sums = store.sums()
        if projection:
            facts.behind = not wait_for_view(store, "ledger")
            facts.projected = None if facts.behind else store.balances()
    finally:
        store.close()
    facts.replay = replay(installation.settings)
    facts.verification = verify(installation, *services)
    return facts


def wait_for_view(store: Store, view: str, *, timeout_s: float = _VIEW_TIMEOUT_S) -> bool:
    """Wait until a view has taken in all that the store has; ``False`` when it has not in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        marks = store.marks(view)
        if all(marks.get(s, 0) >= position for s, (_, position, _) in store.heads().items()):
            return True
        time.sleep(0.2)
    return False
