"""The roles of the payment service: the writer of its shards, and its query API."""

from __future__ import annotations

from nexafi.role import RoleContext
from services.payments.domain import PaymentsDecider


async def run_writer(ctx: RoleContext) -> None:
    """Decide the commands of the shards that this process is given."""
    from events.service import run_writer as run

    await run(ctx, PaymentsDecider())


async def run_api(ctx: RoleContext) -> None:
    """Answer queries on the port of the payment service."""
    from services.payments.api import run_api as run

    await run(ctx)
