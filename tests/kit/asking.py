"""A service's query routes, asked as one tenant, without a socket and without the signature of a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from nexafi.database import async_engine
from nexafi.http import install_problem_handlers
from nexafi.internal_auth import SCOPE_KEY, Caller
from nexafi.role import Health, RoleContext
from nexafi.settings import Settings
from projections.queries.reading import Reader
from projections.queries.serving import Routes


@asynccontextmanager
async def asking(
    settings: Settings, routes: Routes, tenant: str = "acme"
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of these routes."""
    engine = async_engine(settings, "test-api", pool_size=2)
    app = FastAPI()
    install_problem_handlers(app)
    routes(app, Reader(engine), RoleContext(settings, asyncio.Event(), Health()))

    async def with_caller(scope: Any, receive: Any, send: Any) -> None:
        scope[SCOPE_KEY] = Caller(tenant, "tester")
        await app(scope, receive, send)

    transport = httpx.ASGITransport(with_caller)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
    await engine.dispose()
