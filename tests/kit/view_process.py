"""A process that runs a role of the projections for a test: ``python -m tests.kit.view_process <role> <view>...``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import orjson

from nexafi.role import Health, RoleContext
from nexafi.settings import Settings
from projections import app, registry
from tests.kit.views import RENAMED, rename


async def _main(role: str, names: list[str]) -> None:
    rename(orjson.loads(os.environ[RENAMED]))
    for name in set(registry.VIEWS) - set(names):
        del registry.VIEWS[name]
    ctx = RoleContext(Settings(), asyncio.Event(), Health())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ctx.stop.set)
    await getattr(app, role)(ctx)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2:]))
