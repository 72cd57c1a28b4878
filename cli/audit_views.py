"""Projected balances, compared with the balances that history gives at the very position of the view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psycopg

from events.checking import Probe
from events.signed_heads import Place
from services.ledger.state import State

#: Status of an account that left the ledger's memory.
_CLOSED: Final = "closed"


@dataclass(frozen=True, slots=True)
class LedgerView:
    """Accounts of one shard as the live view has them: id -> (balance, available, status), minor units."""

    accounts: dict[str, tuple[int, int, str]]

    def __call__(self, state: State) -> str | None:
        """The first account that differs, ``None`` when none does."""
        left = dict(self.accounts)
        for ledger in state.ledgers.values():
            for account in ledger.accounts.values():
                row = left.pop(account.id, None)
                if row is None:
                    return f"the view lacks account {account.id}"
                if row[:2] != (account.posted, account.available) or row[2] == _CLOSED:
                    return (
                        f"account {account.id} has balance {account.posted}, available {account.available}; "
                        f"the view says {row[0]}, {row[1]} ({row[2]})"
                    )
            for closed in ledger.closed:
                if left.pop(closed, None) != (0, 0, _CLOSED):
                    return f"account {closed} is closed and empty; the view says otherwise"
        if left:
            return f"the view has account {min(left)}, which history does not know"
        return None


def read_views(url: str) -> dict[Place, dict[int, Probe]]:
    """What the live ledger view says, by shard and position. Read it **before** the stores' heads.

    Raises ``psycopg.Error`` when there are no views.
    """
    with psycopg.connect(url, autocommit=True) as conn, conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        marks = conn.execute(
            "SELECT shard, position FROM views.live_marks WHERE view = 'ledger' AND service = 'ledger'"
        ).fetchall()
        rows = conn.execute(
            "SELECT shard, account_id::text, balance, available, status FROM views.accounts"
        ).fetchall()
    accounts: dict[int, dict[str, tuple[int, int, str]]] = {shard: {} for shard, _ in marks}
    for shard, account_id, balance, available, status in rows:
        accounts.setdefault(shard, {})[account_id] = (int(balance), int(available), status)
    return {("ledger", shard): {position: LedgerView(accounts[shard])} for shard, position in marks}
