"""Process of the counter service."""

from __future__ import annotations

import asyncio
import signal

from events.service import run_writer
from nexafi import logs
from nexafi.role import Health, RoleContext
from nexafi.settings import Settings
from tests.kit.counter import CounterDecider


async def main(service: str) -> None:
    """Run until SIGTERM."""
    ctx = RoleContext(Settings(), asyncio.Event(), Health())
    logs.configure(ctx.settings, service)  # as every role does: what is logged costs what it costs there
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ctx.stop.set)
    await run_writer(ctx, CounterDecider(service))


def run(service: str) -> int:
    """Body of the process."""
    asyncio.run(main(service))
    return 0
