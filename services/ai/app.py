"""The roles of the AI service: the writer that scores payments, and its query API."""

from __future__ import annotations

import asyncio

from nexafi.role import RoleContext
from services.ai.artefact import BUNDLED
from services.ai.breaker import Breaker
from services.ai.domain import AiDecider
from services.ai.onnx_scorer import OnnxScorer


def breaker_of(ctx: RoleContext) -> Breaker:
    """The model of ``NEXAFI_FRAUD_MODEL_DIR`` or the bundled one behind a breaker; what decides shows in health's details.

    Payments go on under the rules while the model is away, so that is a detail and not a reason to be unready.
    """
    folder = ctx.settings.fraud_model_dir or BUNDLED

    def changed(problem: str | None) -> None:
        ctx.health.details["fraud-model"] = problem or "the model decides"

    return Breaker(lambda: OnnxScorer(folder), changed)


async def run_writer(ctx: RoleContext) -> None:
    """Decide the commands of the shards that this process is given."""
    from events.service import run_writer as run

    await run(ctx, AiDecider(await asyncio.to_thread(breaker_of, ctx)))


async def run_api(ctx: RoleContext) -> None:
    """Answer queries on the port of the AI service."""
    from services.ai.api import run_api as run

    await run(ctx)
