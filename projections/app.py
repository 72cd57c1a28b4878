"""The roles of the projections: PostgreSQL views, and the search index that mirrors them."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from nexafi.database import async_engine, driver
from nexafi.role import RoleContext
from projections.marks import live_version
from projections.projector import CONNECTIONS, SESSION, Projector
from projections.registry import VIEWS, view_of

log = structlog.get_logger(__name__)
_RETRY_S: Final = 1.0


async def run_postgres(ctx: RoleContext) -> None:
    """Keep the live version of every view up to date."""
    engine = async_engine(ctx.settings, "projector", pool_size=CONNECTIONS * len(VIEWS) + 1, session=SESSION)
    keepers = [asyncio.create_task(_keep(ctx, engine, name), name=f"view {name}") for name in VIEWS]
    try:
        await asyncio.gather(*keepers)
    finally:
        for task in keepers:
            task.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await engine.dispose()


async def _keep(ctx: RoleContext, engine: AsyncEngine, name: str) -> None:
    """Run one view; after any error begin anew from what the database says."""
    condition = f"view {name}"
    ctx.health.expect(condition)
    while not ctx.stop.is_set():
        projector: Projector | None = None
        try:
            async with driver(engine) as connection:
                live = await live_version(connection, name)
            projector = Projector(
                ctx.settings,
                view_of(name, live.code),
                live.version,
                engine,
                ctx.health,
                name=f"projection/{name}",
            )
            await projector.open()
            ctx.health.ok(condition)
            while not ctx.stop.is_set():
                await projector.step()
            await projector.close()
        except asyncio.CancelledError:
            if projector is not None:
                await projector.abandon()
            raise
        except Exception as error:
            ctx.health.bad(condition, f"{type(error).__name__}: {error}")
            log.exception("projection begins anew", view=name)
            if projector is not None:
                await projector.abandon()
            await asyncio.sleep(_RETRY_S)


async def run_search(ctx: RoleContext) -> None:
    """Keep the search index up to date."""
    from projections.search.mirror import Mirror

    await Mirror(ctx).run()
