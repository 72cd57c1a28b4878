"""What the parent of test processes has imported before it forks (see :mod:`tests.kit.processes`)."""

from __future__ import annotations

import importlib

from cli.roles import ROLES

for _entry in ROLES.values():
    importlib.import_module(_entry.partition(":")[0])
for _late in (
    "events.service",
    "nexafi.http",
    "nexafi.logs",
    "nexafi.telemetry",
    "cli.runner",
    "uvloop",
    "tests.kit.counter_service",
    "tests.kit.mortal",
):
    importlib.import_module(_late)
