"""The roles of the auth service."""

from __future__ import annotations

import asyncio

from nexafi.database import async_engine
from nexafi.http import serve
from nexafi.role import RoleContext
from services.auth.api import build_api
from services.auth.domain import AuthDecider
from services.auth.view import CredentialView, Follower


async def run_writer(ctx: RoleContext) -> None:
    """Decide commands of ``auth.commands``."""
    from events.service import run_writer as run

    await run(ctx, AuthDecider())


async def run_api(ctx: RoleContext) -> None:
    """Answer queries on the service's port."""
    engine = async_engine(ctx.settings, "auth-api", pool_size=2, statement_timeout_ms=5000)
    view = CredentialView()
    follower = Follower(engine, view, ctx.health, ctx.settings.shard_count("auth"))
    app = build_api(view, follower)
    from events.http import mount

    mount(app, ctx, "auth")
    following = asyncio.create_task(follower.run(ctx.stop), name="auth-view")
    try:
        await serve(app, ctx.settings.port("auth"), ctx, name="auth-api")
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await engine.dispose()
