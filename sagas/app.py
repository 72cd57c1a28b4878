"""The roles of the payment saga: its writer, and the router that brings it the facts of other services."""

from __future__ import annotations

from nexafi.role import RoleContext
from nexafi.settings import Settings
from sagas.payment.decider import PaymentSagaDecider
from sagas.payment.policy import Policy

_SECOND_US = 1_000_000


def policy(settings: Settings) -> Policy:
    """The saga's patience and its partners' shards, as this installation has them."""
    return Policy(
        step_timeout_us=settings.saga_step_timeout_s * _SECOND_US,
        retries=settings.saga_retries,
        review_timeout_us=settings.saga_review_days * 24 * 3600 * _SECOND_US,
        hold_life_us=settings.saga_hold_s * _SECOND_US,
        shards={name: settings.shard_count(name) for name in ("ai", "compliance")},
    )


async def run_saga(ctx: RoleContext) -> None:
    """Decide what each saga does next."""
    from events.service import run_writer

    await run_writer(ctx, PaymentSagaDecider(policy(ctx.settings)))


async def run_router(ctx: RoleContext) -> None:
    """Copy the events that concern sagas to their commands topic."""
    from sagas.router import Router

    await Router(ctx).run()
