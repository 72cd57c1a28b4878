"""Secrets of a local stack: made once, kept beside the data, exported to the roles."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

from cli.stack.paths import Layout
from nexafi import secret_file

#: The superuser of the embedded PostgreSQL: handed to no role.
SUPERUSER_PASSWORD = "POSTGRES_PASSWORD"  # noqa: S105 - its name

#: Every secret, and how one is made. A new name is added to an existing file at the next start.
GENERATED: dict[str, Callable[[], str]] = {
    "NEXAFI_HMAC_KEY": lambda: secrets.token_urlsafe(48),
    "NEXAFI_DATABASE_PASSWORD": lambda: secrets.token_urlsafe(32),
    "NEXAFI_REDIS_PASSWORD": lambda: secrets.token_urlsafe(32),
    SUPERUSER_PASSWORD: lambda: secrets.token_urlsafe(32),
}


def load(layout: Layout) -> dict[str, str]:
    """The secrets in the file; empty when there is none yet."""
    return secret_file.read(layout.root)


def for_roles(layout: Layout) -> dict[str, str]:
    """What roles and commands get in their environment."""
    return {name: value for name, value in load(layout).items() if name != SUPERUSER_PASSWORD}


def ensure(layout: Layout) -> dict[str, str]:
    """Make what is missing and return all; the file is only its owner's (mode 600)."""
    found = load(layout)
    wanted = {name: found.get(name) or make() for name, make in GENERATED.items()} | found
    if wanted != found:
        new = layout.secrets.with_suffix(".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123 - mode from the start
            file.write(
                "# Secrets of this checkout's local stack, made by `./dev up`. Losing them loses access.\n"
            )
            file.writelines(f"{name}={value}\n" for name, value in wanted.items())
        new.replace(layout.secrets)
    return wanted
