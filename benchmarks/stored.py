"""What a store says, asked with SQL of our own and not with the code that wrote it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

import psycopg

from nexafi.settings import Settings

POSTED: Final = "ledger.transaction-posted.v1"


class Store:
    """A connection to the ledger's store; one for each thread."""

    def __init__(self, settings: Settings) -> None:
        self._connection: psycopg.Connection[Any] = psycopg.connect(settings.database, autocommit=True)

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def heads(self) -> dict[int, tuple[int, int, int]]:
        """Shard -> (epoch, last position, next offset)."""
        rows = self._connection.execute(
            "SELECT shard, epoch, next_position - 1, next_offset FROM ledger.shard_head"
        ).fetchall()
        return {shard: (epoch, position, offset) for shard, epoch, position, offset in rows}

    def events(self) -> int:
        """Committed events, by the heads."""
        return sum(position for _, position, _ in self.heads().values())

    def consumed(self) -> int:
        """Records that are dealt with (offsets begin at 0, and nothing here writes transactions)."""
        return sum(offset for _, _, offset in self.heads().values())

    def count(self, topic: str) -> int:
        """Stored events of a type."""
        row = self._connection.execute(
            "SELECT count(*) FROM ledger.events WHERE topic = %s", (topic,)
        ).fetchone()
        assert row is not None
        return int(row[0])

    def sums(self) -> dict[str, int]:
        """``shard/currency`` -> debits minus credits of every posted entry, from the JSON that is stored."""
        rows = self._connection.execute(
            """SELECT e.shard, x->>'currency',
                      sum(CASE x->>'side' WHEN 'debit' THEN (x->>'amount')::numeric ELSE -(x->>'amount')::numeric END)
               FROM ledger.events e
               CROSS JOIN LATERAL jsonb_array_elements(convert_from(e.state, 'UTF8')::jsonb->'entries') x
               WHERE e.topic = %s GROUP BY 1, 2""",
            (POSTED,),
        ).fetchall()
        return {f"{shard}/{currency}": int(total) for shard, currency, total in rows}

    def missing(self, transactions: Iterable[str]) -> list[str]:
        """Those of the transactions that no event posts."""
        wanted = sorted(set(transactions))
        lost: list[str] = []
        for start in range(0, len(wanted), 20_000):
            rows = self._connection.execute(
                """SELECT w.id::text FROM unnest(%s::uuid[]) AS w(id)
                   WHERE NOT EXISTS (SELECT 1 FROM ledger.events e
                                     WHERE e.originator_id = w.id AND e.originator_version = 1 AND e.topic = %s)""",
                (wanted[start : start + 20_000], POSTED),
            ).fetchall()
            lost += [row[0] for row in rows]
        return lost

    def balances(self) -> dict[str, int]:
        """Account -> balance on its normal side, as the projection says."""
        rows = self._connection.execute("SELECT account_id::text, balance FROM views.accounts").fetchall()
        return {account: int(balance) for account, balance in rows}

    def marks(self, view: str, *, service: str = "ledger") -> dict[int, int]:
        """Shard -> position that the live version of a view or search index has taken in."""
        rows = self._connection.execute(
            "SELECT shard, position FROM views.live_marks WHERE view = %s AND service = %s",
            (view, service),
        ).fetchall()
        return dict(rows)

    def times(self, after: dict[int, int]) -> list[tuple[int, int, float]]:
        """(shard, position, seconds since 1970) of each event above the positions of ``after``."""
        rows = self._connection.execute(
            """SELECT e.shard, e.position, (convert_from(e.metadata, 'UTF8')::jsonb->>'time')::bigint
               FROM ledger.events e JOIN unnest(%s::int2[], %s::int8[]) AS a(shard, position) ON e.shard = a.shard
               WHERE e.position > a.position""",
            (list(after), list(after.values())),
        ).fetchall()
        return [(shard, position, time_us / 1e6) for shard, position, time_us in rows]

    def set_snapshots_aside(self) -> int:
        """Take the ledger's snapshots away until :meth:`put_snapshots_back`; how many there were."""
        self._connection.execute("CREATE TEMPORARY TABLE aside AS SELECT * FROM ledger.snapshots")
        return self._connection.execute("DELETE FROM ledger.snapshots").rowcount

    def put_snapshots_back(self) -> None:
        """Give back what :meth:`set_snapshots_aside` took: the checks compare replay with them."""
        self._connection.execute("INSERT INTO ledger.snapshots SELECT * FROM aside ON CONFLICT DO NOTHING")
        self._connection.execute("DROP TABLE aside")

    def wait_consumed(self, records: int, timeout_s: float) -> None:
        """Wait until the writer has dealt with so many records."""
        deadline = time.monotonic() + timeout_s
        while (now := self.consumed()) < records:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{now} of {records} records after {timeout_s:.0f} s")
            time.sleep(0.1)
