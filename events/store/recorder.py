"""The recorder of one service: the ``eventsourcing`` library's process recorder over shard heads and COPY.

What it changes, and why (measured in ``docs/decisions/0003-eventsourcing-with-copy.md``):

* ``shard_head`` is the tracking record, the fence and the position at once; there is no tracking table and
  no sequence (a sequence is assigned at insert and visible at commit, so tailing readers would skip).
* Events and results are copied in binary form: PostgreSQL receives the very bytes that were hashed.
* One transaction appends to all shards of a batch.

Synchronous (psycopg): a role runs it in its writer thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from eventsourcing.persistence import (
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    Notification,
    OperationalError,
    PersistenceError,
    ProgrammingError,
    StoredEvent,
    Subscription,
    Tracking,
)
from eventsourcing.postgres import PostgresDatastore, PostgresProcessRecorder
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row

from events.errors import AppendDataError, ClaimConflictError, FencedError, UnknownCommitError
from events.failpoints import armed, reach
from events.store.append import ShardAppend, append_in_transaction, single_append
from events.store.at_once import append_at_once, fits
from events.store.tables import create_statements, month_partition, schema_name

Connection = psycopg.Connection[Any]


def open_datastore(url: str, service: str, *, pool_size: int = 2) -> PostgresDatastore:
    """The library's datastore (connection pool) on a libpq URL, in the service's schema."""
    info: dict[str, Any] = conninfo_to_dict(url)
    return PostgresDatastore(
        dbname=str(info.get("dbname", "nexafi")),
        host=str(info.get("host", "127.0.0.1")),
        port=str(info.get("port", "5432")),
        user=str(info.get("user", "nexafi")),
        password=str(info.get("password", "")),
        schema=schema_name(service),
        pool_size=pool_size,
        max_overflow=4,
        connect_timeout=10,
        pool_open_timeout=10,
    )


class ShardRecorder(PostgresProcessRecorder):
    """Appends to and reads from the store of one service.

    As a library recorder it stands for one shard (``shard``), whose gapless positions are the notification
    ids, and whose ``next_offset`` is the tracking id of ``upstream``. The engine's writer uses
    :meth:`append`, :meth:`acquire` and the readers, for any number of shards.
    """

    def __init__(
        self, datastore: PostgresDatastore, *, service: str, shard: int = 0, upstream: str | None = None
    ) -> None:
        super().__init__(datastore)
        self.service = service
        self.schema = schema_name(service)
        self.shard = shard
        self.upstream = upstream
        datastore.pool.open(wait=False)

    # ------------------------------------------------------------------ set-up

    def create_table(self) -> None:
        """Create the store's tables, the month's partition and this recorder's head row."""
        from datetime import UTC, datetime

        with self.connection() as conn, conn.transaction():
            today = datetime.now(UTC).date()
            for statement in create_statements(self.service) + month_partition(self.service, today):
                conn.execute(statement)
            conn.execute(
                f'INSERT INTO "{self.schema}".shard_head (shard, history, chain_hash) '
                "VALUES (%s, gen_random_uuid(), %s) ON CONFLICT DO NOTHING",
                (self.shard, bytes(32)),
            )

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A pooled connection that gives tuples; psycopg's errors pass through unchanged."""
        with self.datastore.pool.connection() as conn:
            previous = conn.row_factory
            conn.row_factory = tuple_row  # type: ignore[assignment]
            try:
                yield conn
            finally:
                conn.row_factory = previous

    # ------------------------------------------------------------------ the append

    def append(self, shards: Sequence[ShardAppend]) -> None:
        """Append one batch to its shards in one transaction.

        Raises :class:`FencedError` when a head moved, :class:`ClaimConflictError` when a claim is taken,
        :class:`AppendDataError` for data that PostgreSQL refuses (all: nothing was written), and
        :class:`UnknownCommitError` when the outcome is not known.
        """
        try:
            with self.connection() as conn:
                # A statement can not be stopped half-way: who wants to die there takes the long way.
                if fits(shards) and not armed("append"):
                    append_at_once(conn, self.schema, shards)
                    return
                with conn.transaction():
                    append_in_transaction(conn, self.schema, shards)
                    reach("append")
        except (FencedError, ClaimConflictError):
            raise
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise AppendDataError(error.sqlstate or "22000", str(error)) from error
        except psycopg.Error as error:
            raise UnknownCommitError(f"{type(error).__name__}: {error}") from error

    # ------------------------------------------------------------------ the library's interface

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Append to this recorder's own shard; returns the positions. ``tracking`` moves the consumed offset."""
        tracking: Tracking | None = kwargs.get("tracking")
        if not stored_events and tracking is None:
            return []
        with _library_errors(), self.connection() as conn, conn.transaction():
            # Without an epoch there is nothing to compare and swap: lock the head, so that positions are
            # assigned in commit order all the same.
            head = conn.execute(
                f"SELECT epoch, next_position, next_offset, chain_hash, last_time_us "
                f'FROM "{self.schema}".shard_head WHERE shard = %s FOR UPDATE',
                (self.shard,),
            ).fetchone()
            if head is None:
                raise ProgrammingError(f"shard {self.shard} of {self.service} does not exist")
            epoch, position, offset, chain, last_time = head
            following = offset
            if tracking is not None and tracking.application_name == self.upstream:
                if tracking.notification_id <= offset:
                    raise IntegrityError(f"{self.upstream} {tracking.notification_id} is tracked already")
                following = tracking.notification_id
            elif tracking is not None:
                self._track_foreign(conn, tracking)
            batch = single_append(
                self.shard, epoch, position, offset, following, chain, last_time, stored_events
            )
            append_in_transaction(conn, self.schema, [batch])
            return list(range(position, position + len(stored_events)))

    def _track_foreign(self, conn: Connection, tracking: Tracking) -> None:
        """Upstreams other than the shard's own topic are tracked by name; the engine itself has none."""
        moved = conn.execute(
            f'INSERT INTO "{self.schema}".meta AS m (key, value) VALUES (%s, %s) '
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE m.value::bigint < excluded.value::bigint",
            (f"tracking/{tracking.application_name}", str(tracking.notification_id)),
        ).rowcount
        if moved == 0:
            raise IntegrityError(f"{tracking.application_name} {tracking.notification_id} is tracked already")

    def insert_tracking(self, tracking: Tracking) -> None:
        """Move the consumed offset without an event."""
        self.insert_events([], tracking=tracking)

    def max_tracking_id(self, application_name: str) -> int | None:
        """The highest consumed upstream position, or ``None`` when nothing was consumed."""
        statement, key = (
            f'SELECT next_offset FROM "{self.schema}".shard_head WHERE shard = %s',
            str(self.shard),
        )
        if application_name != self.upstream:
            statement = f'SELECT value::bigint FROM "{self.schema}".meta WHERE key = %s'
            key = f"tracking/{application_name}"
        with _library_errors(), self.connection() as conn:
            row = conn.execute(statement, (key,)).fetchone()
        return int(row[0]) if row is not None and row[0] > 0 else None

    def max_notification_id(self) -> int | None:
        """The last position of this recorder's shard, or ``None`` when it is empty."""
        with _library_errors(), self.connection() as conn:
            row = conn.execute(
                f'SELECT max(position) FROM "{self.schema}".events WHERE shard = %s', (self.shard,)
            ).fetchone()
        return row[0] if row is not None else None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Events of one stream in order of version."""
        clauses, params = ["originator_id = %s"], [originator_id]
        for operator, bound in ((">", gt), ("<=", lte)):
            if bound is not None:
                clauses.append(f"originator_version {operator} %s")
                params.append(bound)  # type: ignore[arg-type]
        statement = (
            f'SELECT originator_id, originator_version, topic, state FROM "{self.schema}".events '
            f"WHERE {' AND '.join(clauses)} ORDER BY originator_version {'DESC' if desc else 'ASC'}"
        )
        if limit is not None:
            statement += " LIMIT %s"
            params.append(limit)  # type: ignore[arg-type]
        with _library_errors(), self.connection() as conn:
            return [StoredEvent(*row) for row in conn.execute(statement, params)]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Events of this recorder's shard in order of position."""
        clauses, params = ["shard = %s"], [self.shard]
        if start is not None:
            clauses.append("position >= %s" if inclusive_of_start else "position > %s")
            params.append(start)
        if stop is not None:
            clauses.append("position <= %s")
            params.append(stop)
        if topics:
            clauses.append("topic = ANY(%s)")
            params.append(list(topics))  # type: ignore[arg-type]
        statement = (
            f'SELECT position, originator_id, originator_version, topic, state FROM "{self.schema}".events '
            f"WHERE {' AND '.join(clauses)} ORDER BY position LIMIT %s"
        )
        params.append(limit)
        with _library_errors(), self.connection() as conn:
            return [
                Notification(id=p, originator_id=o, originator_version=v, topic=t, state=s)
                for p, o, v, t, s in conn.execute(statement, params)
            ]

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[Any]:  # noqa: ARG002
        """Not offered: NOTIFY takes a lock at every commit. Tail the ``*.events`` topic instead."""
        raise ProgrammingError("subscribe to the service's events topic: the store has no NOTIFY")


@contextmanager
def _library_errors() -> Iterator[None]:
    """Give psycopg's errors the names that users of the library's recorders expect."""
    try:
        yield
    except PersistenceError:
        raise
    except psycopg.Error as error:
        for theirs, ours in (
            (psycopg.InterfaceError, InterfaceError),
            (psycopg.OperationalError, OperationalError),
            (psycopg.IntegrityError, IntegrityError),
            (psycopg.DataError, DataError),
            (psycopg.InternalError, InternalError),
            (psycopg.ProgrammingError, ProgrammingError),
        ):
            if isinstance(error, theirs):
                raise ours(str(error)) from error
        raise PersistenceError(str(error)) from error
