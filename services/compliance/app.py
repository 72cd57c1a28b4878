"""The roles of the compliance service: the writer of its shards, and its query API."""

from __future__ import annotations

import asyncio

from nexafi.role import RoleContext
from services.compliance.domain import ComplianceDecider
from services.compliance.sanctions import load_screener


async def run_writer(ctx: RoleContext) -> None:
    """Decide the commands of the shards that this process is given; ready once the list is loaded."""
    from events.service import run_writer as run

    ctx.health.expect("sanctions-list")
    screener = await asyncio.to_thread(load_screener, ctx.settings)
    ctx.health.details["sanctions-list"] = {
        "list": screener.list_id,
        "version": screener.list_version,
        "entries": screener.index.entries,
        "matcher": screener.matcher,
    }
    ctx.health.ok("sanctions-list")
    await run(ctx, ComplianceDecider(screener))


async def run_api(ctx: RoleContext) -> None:
    """Answer queries on the port of the compliance service."""
    from services.compliance.api import run_api as run

    await run(ctx)
