"""The roles of the AI service: the writer that scores payments, and its query API."""

from __future__ import annotations

from nexafi.role import RoleContext
from services.ai.domain import AiDecider


async def run_writer(ctx: RoleContext) -> None:
    """Score payments with the installed model."""
    from events.service import run_writer as run
    from services.ai.scoring import load_scorer

    await run(ctx, AiDecider(load_scorer(ctx.settings.fraud_model_dir)))


async def run_api(ctx: RoleContext) -> None:
    """Answer queries on the port of the AI service."""
    from services.ai.api import run_api as run

    await run(ctx)
