"""Database engines: SQLAlchemy's asyncio over asyncpg, and the driver underneath where COPY is needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from nexafi.settings import Settings

CONNECT_TIMEOUT_S: Final = 10.0


def asyncpg_url(database: str) -> str:
    """SQLAlchemy's URL of a libpq URL."""
    parts = urlsplit(database)
    return urlunsplit(parts._replace(scheme="postgresql+asyncpg"))


def async_engine(
    settings: Settings,
    name: str,
    *,
    pool_size: int = 5,
    statement_timeout_ms: int | None = None,
    session: dict[str, str] | None = None,
) -> AsyncEngine:
    """A pooled engine whose connections show ``name`` in ``pg_stat_activity``.

    At most ``pool_size`` connections; a caller waits 10 s for one. ``session`` are server settings of each
    connection, e.g. ``{"synchronous_commit": "off"}``.
    """
    server = {"application_name": f"nexafi-{name}", "jit": "off"} | (session or {})
    if statement_timeout_ms is not None:
        server["statement_timeout"] = str(statement_timeout_ms)
    return create_async_engine(
        asyncpg_url(settings.database),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_recycle=1800,
        connect_args={"server_settings": server, "timeout": CONNECT_TIMEOUT_S},
    )


@asynccontextmanager
async def driver(engine: AsyncEngine) -> AsyncIterator[asyncpg.Connection]:
    """The asyncpg connection under one of the engine's, for COPY and explicit transactions.

    What the block leaves open is rolled back. After an error the connection is not used again.
    """
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        inner: asyncpg.Connection | None = raw.driver_connection
        assert inner is not None
        try:
            yield inner
        except BaseException:
            await connection.invalidate()
            raise
        if inner.is_closed():  # ended on purpose: the pool must not lend it again
            await connection.invalidate()
