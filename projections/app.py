"""The roles of the projections: PostgreSQL views, and the search index that mirrors them."""

from __future__ import annotations

import asyncio

from nexafi.database import async_engine
from nexafi.memory import settle_heap
from nexafi.role import RoleContext
from projections.projector import CONNECTIONS, SESSION
from projections.registry import VIEWS
from projections.runner import Keeper


async def run_postgres(ctx: RoleContext) -> None:
    """Keep the live version of every view up to date."""
    engine = async_engine(ctx.settings, "projector", pool_size=CONNECTIONS * len(VIEWS) + 2, session=SESSION)
    settle_heap()
    try:
        async with asyncio.TaskGroup() as keepers:
            for name in VIEWS:
                keepers.create_task(Keeper(ctx, engine, name).run(), name=f"view {name}")
    finally:
        await engine.dispose()


async def run_search(ctx: RoleContext) -> None:
    """Keep the search index up to date."""
    from projections.search.mirror import Mirror

    await Mirror(ctx).run()
