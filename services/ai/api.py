"""The query API of the AI service: its store's results and history; scores are read in a payment's timeline."""

from __future__ import annotations

from fastapi import FastAPI

from nexafi.role import RoleContext
from projections.queries.reading import Reader
from projections.queries.serving import serve_queries


async def run_api(ctx: RoleContext) -> None:
    """The role ``ai-api``."""
    await serve_queries(ctx, "ai", routes)


def routes(_app: FastAPI, _reader: Reader, _ctx: RoleContext) -> None:
    """No view of its own yet."""
