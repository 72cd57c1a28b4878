"""Bringing a view to this release's code without asking anyone: a rebuild beside the live version.

A live version of older code is kept up to date by that code, which is still here, until the new one is equal in
everything that both say. Tables that no code of this release can write (another layout) stand still and are
replaced as soon as the new version has come as far as they did.
"""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from nexafi.database import driver
from nexafi.role import RoleContext
from projections import ddl
from projections.marks import Version, live_version, versions_of
from projections.rebuild import DifferentError, rebuild
from projections.registry import newest, writer_of
from projections.versions import RebuildRunningError

log = structlog.get_logger(__name__)
_AGAIN_S: Final = 30.0


async def outdated(engine: AsyncEngine, name: str) -> Version | None:
    """The live version when this release makes another; ``None`` when it does not, or someone went back on purpose."""
    code = newest(name)
    async with driver(engine) as connection:
        live = await live_version(connection, name)
        if live.code == code.code and writer_of(live) is not None:
            return None
        kept = [v for v in await versions_of(connection, name) if v.state == "kept"]
    if any(v.code == code.code and v.layout == ddl.layout(code) for v in kept):
        return None
    return live


async def upgrade(ctx: RoleContext, engine: AsyncEngine, name: str) -> None:
    """Rebuild view ``name`` when the live version is not of this release; tries again until it is or ``ctx.stop``."""
    while not ctx.stop.is_set():
        try:
            live = await outdated(engine, name)
            if live is None:
                return
            known = writer_of(live) is not None
            log.info("view is made anew for this release", view=name, live_code=live.code, comparing=known)
            await rebuild(ctx.settings, name, compare_first=known)
            log.info("view is of this release", view=name, code=newest(name).code)
            return
        except RebuildRunningError:
            log.info("another process makes the view anew", view=name)
        except DifferentError as error:
            # The old version goes on being read; people decide which of the two is right.
            log.error("view was not switched: rows differ", view=name, counts=error.comparison.counts)
            ctx.health.details[f"upgrade/{name}"] = f"not switched: {error}"
            return
        except (OSError, RuntimeError, LookupError, asyncpg.PostgresError, SQLAlchemyError) as error:
            log.warning("the view could not be made anew yet", view=name, error=str(error)[:300])
        try:
            async with asyncio.timeout(_AGAIN_S):
                await ctx.stop.wait()
        except TimeoutError:
            continue
