"""The roles of the payment saga: its writer, and the router that brings it the facts of other services."""

from __future__ import annotations

from nexafi.role import RoleContext
from sagas.payment.decider import PaymentSagaDecider


async def run_saga(ctx: RoleContext) -> None:
    """Decide what each saga does next."""
    from events.service import run_writer

    await run_writer(ctx, PaymentSagaDecider())


async def run_router(ctx: RoleContext) -> None:
    """Copy the events that concern sagas to their commands topic."""
    from sagas.router import Router

    await Router(ctx).run()
