"""Acquiring shards: the fence against writers that are paused, partitioned away or merely slow."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
import structlog

from events.errors import EngineError
from events.store.recorder import ShardRecorder

log = structlog.get_logger(__name__)
LOCK_WAIT_S: Final = 2.0
ATTEMPTS: Final = 5


@dataclass(slots=True)
class Head:
    """The row of a shard: who may write, where it stands, and the hash of all that went before."""

    shard: int
    epoch: int
    owner: str
    history: str
    next_position: int
    next_offset: int
    last_time_us: int
    chain_hash: bytes


_COLUMNS = "shard, epoch, owner, history::text, next_position, next_offset, last_time_us, chain_hash"


def read_heads(recorder: ShardRecorder) -> list[Head]:
    """All heads of the store, without touching them."""
    with recorder.connection() as conn:
        rows = conn.execute(
            f'SELECT {_COLUMNS} FROM "{recorder.schema}".shard_head ORDER BY shard'
        ).fetchall()
    return [Head(*row) for row in rows]


def acquire(recorder: ShardRecorder, shards: Sequence[int], owner: str) -> list[Head]:
    """Become the only writer of ``shards``: bump each epoch and return the heads.

    Waiting for the row locks settles any commit of the previous owner whose outcome nobody knew. A backend
    that still holds a lock after :data:`LOCK_WAIT_S` is ended: a writer stopped in the middle of a COPY
    holds it past ``statement_timeout``, for as long as it is stopped.
    """
    statement = (
        f'UPDATE "{recorder.schema}".shard_head h SET epoch = epoch + 1, owner = %s '
        f'FROM (SELECT shard FROM "{recorder.schema}".shard_head WHERE shard = ANY(%s) ORDER BY shard FOR UPDATE) l '
        f"WHERE h.shard = l.shard RETURNING {_COLUMNS.replace('shard,', 'h.shard,', 1)}"
    )
    for _attempt in range(ATTEMPTS):
        with recorder.connection() as conn:
            pid = conn.info.backend_pid
            done = threading.Event()
            watcher = threading.Thread(target=_end_lock_holders, args=(recorder, pid, done), daemon=True)
            watcher.start()
            try:
                with conn.transaction():
                    rows = conn.execute(statement, (owner, list(shards))).fetchall()
            except psycopg.errors.DeadlockDetected:
                continue
            finally:
                done.set()
                watcher.join()
        if len(rows) != len(set(shards)):
            raise EngineError(f"{recorder.service} has no head row for some of shards {sorted(shards)}")
        return sorted((Head(*row) for row in rows), key=lambda h: h.shard)
    raise EngineError(
        f"could not acquire shards {sorted(shards)} of {recorder.service} in {ATTEMPTS} attempts"
    )


def _end_lock_holders(recorder: ShardRecorder, waiting_pid: int, done: threading.Event) -> None:
    """While ``waiting_pid`` waits for row locks, end those who hold them."""
    while not done.wait(LOCK_WAIT_S):
        with recorder.connection() as conn:
            ended = conn.execute(
                "SELECT pid, pg_terminate_backend(pid) FROM unnest(pg_blocking_pids(%s)) AS pid",
                (waiting_pid,),
            ).fetchall()
        for pid, success in ended:
            log.warning(
                "ended the backend that held a shard's head", service=recorder.service, pid=pid, ended=success
            )


def clock_offset_us(recorder: ShardRecorder, now_us: int) -> int:
    """This machine's clock minus the database's, in microseconds."""
    with recorder.connection() as conn:
        row = conn.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone()
    assert row is not None
    return now_us - int(row[0])
