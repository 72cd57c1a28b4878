"""Does a store still say what was written? Hashes, gapless positions, heads, streams, balances and snapshots.

Everything is computed anew from the stored rows; nothing that the store says about itself is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

from events.chain import GENESIS, encode_row, leaf_hash, link, merkle_root
from events.decider import Decider, Emit, InvariantViolationError
from events.loading import EventDecoder, meta_of
from events.store import reading
from events.store.heads import Head, read_heads
from events.store.reading import BatchRow, StoredRow
from events.store.recorder import ShardRecorder

S = TypeVar("S")


@dataclass
class ShardReport:
    """What was checked on one shard, and what is wrong with it (``None``: nothing)."""

    service: str
    shard: int
    events: int = 0
    batches: int = 0
    snapshots: int = 0
    chain_hash: str = ""
    digest: str = ""
    problem: str | None = None


@dataclass
class _Walk:
    """Where the walk over a shard's history stands."""

    position: int = 0
    chain: bytes = GENESIS
    versions: dict[Any, int] = field(default_factory=dict)


def verify_shard(recorder: ShardRecorder, decider: Decider[S], head: Head) -> ShardReport:
    """Check one shard from its first event; the report names the first place that is wrong."""
    report = ShardReport(recorder.service, head.shard)
    try:
        _verify(recorder, decider, head, report)
    except (InvariantViolationError, LookupError, TypeError, ValueError) as error:
        report.problem = f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 -- whatever a damaged store makes fail is a finding, not a crash
        report.problem = f"{type(error).__name__}: {error}"
    return report


def _verify(recorder: ShardRecorder, decider: Decider[S], head: Head, report: ShardReport) -> None:
    walk, decoder = _Walk(), EventDecoder(decider)
    state = decider.initial(head.shard)
    batches = reading.batches(recorder, head.shard)
    snapshots = _snapshots(recorder, head.shard, decider.state_version)
    pending: list[StoredRow] = []
    batch = next(batches, None)
    for rows in reading.tail(recorder, head.shard, 0):
        pending.extend(rows)
        while batch is not None and len(pending) >= batch.last_position - batch.first_position + 1:
            size = batch.last_position - batch.first_position + 1
            part, pending = pending[:size], pending[size:]
            _check_batch(walk, batch, part)
            emits = []
            for row in part:
                event = decoder.decode(row.topic, bytes(row.state))
                if event is not None:
                    emits.append(Emit(str(row.originator_id), row.originator_version, event))
                    state = decider.evolve(state, event, meta_of(row))
            decider.check_events(emits)
            report.events += size
            report.batches += 1
            digest = snapshots.pop(batch.last_position, None)
            if digest is not None:
                if sha256(decider.dump(state)).digest() != digest:
                    raise ValueError(
                        f"the snapshot at position {batch.last_position} is not what history gives"
                    )
                report.snapshots += 1
            batch = next(batches, None)
    if pending or batch is not None:
        where = pending[0].position if pending else (batch.first_position if batch is not None else 0)
        raise ValueError(f"events and batches do not end together, from position {where}")
    if head.next_position != walk.position + 1:
        raise ValueError(f"the head says next position {head.next_position}, history ends at {walk.position}")
    if bytes(head.chain_hash) != walk.chain:
        raise ValueError(f"the head's chain hash is not that of the last batch (position {walk.position})")
    decider.check(state)
    report.chain_hash = walk.chain.hex()
    report.digest = sha256(decider.dump(state)).hexdigest()


def _check_batch(walk: _Walk, batch: BatchRow, rows: list[StoredRow]) -> None:
    if batch.first_position != walk.position + 1 or rows[0].position != batch.first_position:
        raise ValueError(f"positions have a gap after {walk.position}")
    leaves = []
    for row in rows:
        version = walk.versions.get(row.originator_id, 0) + 1
        if row.originator_version != version:
            raise ValueError(
                f"position {row.position}: stream version {row.originator_version}, not {version}"
            )
        walk.versions[row.originator_id] = version
        leaves.append(
            leaf_hash(
                encode_row(
                    row.shard,
                    row.position,
                    row.originator_id.bytes,
                    version,
                    row.topic.encode(),
                    bytes(row.metadata),
                    bytes(row.state),
                )
            )
        )
    root = merkle_root(leaves)
    if root != bytes(batch.merkle_root):
        raise ValueError(
            f"positions {batch.first_position}..{batch.last_position} do not hash to their Merkle root"
        )
    walk.chain = link(walk.chain, batch.shard, batch.first_position, batch.last_position, batch.time_us, root)
    if walk.chain != bytes(batch.chain_hash):
        raise ValueError(
            f"the chain breaks at the batch of positions {batch.first_position}..{batch.last_position}"
        )
    walk.position = batch.last_position


def _snapshots(recorder: ShardRecorder, shard: int, state_version: int) -> dict[int, bytes]:
    with recorder.connection() as conn:
        rows = conn.execute(
            f'SELECT position, digest FROM "{recorder.schema}".snapshots WHERE shard = %s AND state_version = %s',
            (shard, state_version),
        ).fetchall()
    return {position: bytes(digest) for position, digest in rows}


def verify_store(
    recorder: ShardRecorder, decider: Decider[S], shards: list[int] | None = None
) -> list[ShardReport]:
    """Check all (or the named) shards of a store."""
    return [
        verify_shard(recorder, decider, h)
        for h in read_heads(recorder)
        if shards is None or h.shard in shards
    ]
