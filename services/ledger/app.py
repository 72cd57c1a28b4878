"""The roles of the ledger service: the writer of its shards, and its query API."""

from __future__ import annotations

from nexafi.role import RoleContext
from services.ledger.domain import LedgerDecider


async def run_writer(ctx: RoleContext) -> None:
    """Decide the commands of the shards that this process is given."""
    from events.service import run_writer as run

    await run(ctx, LedgerDecider())


async def run_api(ctx: RoleContext) -> None:
    """Answer queries on the port of the ledger service."""
    from services.ledger.api import run_api as run

    await run(ctx)
