"""Steps that run once the servers answer: tables and topics before the roles start, demo users after.

Each step names a function ``module:function(settings)``, sync or async, that may be run any number of
times. A step whose module does not exist is skipped and said so; a step that fails stops the start.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import inspect
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.stack import servers
from cli.stack.paths import Layout
from nexafi.settings import Settings

_SERVER_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Step:
    """One step, the servers it needs, and the name under which ``up`` prints the ``dict`` it returns."""

    name: str
    entry: str
    needs: tuple[str, ...]
    shown_as: str | None = None
    after_roles: bool = False


STEPS: tuple[Step, ...] = (
    Step("event stores", "events.migrations:migrate", ("postgres",)),
    Step("topics", "events.topics:ensure_topics", ("kafka",)),
    Step("views", "projections.migrations:migrate", ("postgres",)),
    Step(
        "demo users",
        "services.auth.bootstrap:ensure_demo",
        ("postgres", "kafka"),
        shown_as="demo",
        after_roles=True,
    ),
)


def _wait_for(name: str, settings: Settings) -> None:
    server = servers.make(name, Layout.here(settings.data_dir), None, settings)
    deadline = time.monotonic() + _SERVER_TIMEOUT_S
    while (problem := server.probe()) is not None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} does not answer after {_SERVER_TIMEOUT_S:.0f} s: {problem}")
        time.sleep(0.1)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its package does not exist
        return False


def run_step(step: Step, settings: Settings) -> dict[str, Any]:
    """Run one step; returns what it wants shown."""
    module, _, function = step.entry.partition(":")
    if not _exists(module):
        print(f"{step.name}: {module} does not exist yet, skipped", flush=True)
        return {}
    begun = time.monotonic()
    for server in step.needs:
        _wait_for(server, settings)
    waited = time.monotonic() - begun
    result = getattr(importlib.import_module(module), function)(settings)
    if inspect.isawaitable(result):
        result = asyncio.run(_awaited(result))
    print(f"{step.name}: {time.monotonic() - begun:.2f} s, {waited:.2f} s of it waiting", flush=True)
    return {step.shown_as: result} if step.shown_as and result else {}


async def _awaited(result: Any) -> Any:
    return await result


def main() -> int:
    """Run all steps and write what is to be shown as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--after-roles", action="store_true")
    options = parser.parse_args()
    settings = Settings()
    shown: dict[str, Any] = {}
    for step in (s for s in STEPS if s.after_roles == options.after_roles):
        shown |= run_step(step, settings)
    with open(os.open(options.result, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123 - mode from the start
        json.dump(shown.get("demo", {}), file, default=str)
    return 0


if __name__ == "__main__":
    sys.exit(main())
