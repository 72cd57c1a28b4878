"""Running roles: any of them, in one process, until told to stop.

Used by `nexafi run` in production and by the supervisor of the local stack. The process is ready when all
conditions of all its roles hold; it ends with a status that says why (:class:`Exit`).
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import importlib
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Coroutine
from enum import IntEnum
from typing import Any, Final, cast

from cli.roles import EXIT_BROKEN, ROLES
from nexafi.role import Health, Role, RoleContext
from nexafi.settings import Settings

log = logging.getLogger("nexafi.runner")

#: How long roles may take to drain; whoever ends the process must wait longer (20 s here, 30 s in Kubernetes).
DRAIN_S = 15.0
_CANCEL_S = 3.0
_HEALTH_S = 1.0
#: Roles that never open the database; they may not even reach it.
WITHOUT_DATABASE: Final = frozenset({"gateway", "saga-router"})


class Exit(IntEnum):
    """Exit statuses of a process of roles."""

    WELL = 0
    CRASHED = 1
    #: A role can not be started however often it is tried: no such role, no code for it, or unsafe settings.
    BROKEN = EXIT_BROKEN


class RoleMissingError(RuntimeError):
    """A role has no code to run."""


def load(name: str, registry: dict[str, str] | None = None) -> Role:
    """Import the code of the role ``name``; raises :class:`RoleMissingError` with what to do about it."""
    known = ROLES if registry is None else registry
    if name not in known:
        raise RoleMissingError(f"There is no role {name!r}. The roles are: {', '.join(sorted(known))}.")
    module_name, _, function = known[name].partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise RoleMissingError(
            f"The role {name!r} is {known[name]}, and there is no module {error.name}."
        ) from None
    role = getattr(module, function, None)
    if role is None:
        raise RoleMissingError(f"The role {name!r} is {known[name]}, and {module_name} has no {function}.")
    return cast("Role", role)


async def run_roles(
    roles: dict[str, Role],
    settings: Settings,
    *,
    health_port: int | None = None,
    health_host: str | None = None,
    stop: asyncio.Event | None = None,
    drain_s: float = DRAIN_S,
) -> Exit:
    """Run ``roles`` until ``stop`` is set or one of them ends, then let the others drain for ``drain_s``."""
    ctx = RoleContext(settings=settings, stop=stop or asyncio.Event(), health=Health())
    for name in roles:
        ctx.health.expect(f"role {name}")
    tasks = [asyncio.create_task(_role(ctx, name, role), name=name) for name, role in roles.items()]
    told = asyncio.Event()  # health is answered until everything else has ended: "draining" must be seen
    answering: list[asyncio.Task[None]] = []
    if health_port is not None:
        at_once = settings.model_copy(update={"drain_delay_s": 0.0})
        last = RoleContext(settings=at_once, stop=told, health=ctx.health)
        answering.append(asyncio.create_task(_health(last, health_port, health_host), name="health"))
    stopping = asyncio.create_task(ctx.stop.wait(), name="stop")
    await asyncio.wait({stopping, *tasks, *answering}, return_when=asyncio.FIRST_COMPLETED)
    crashed = [t.get_name() for t in (*tasks, *answering) if t.done() and not ctx.stop.is_set()]
    for name in crashed:
        log.error("%s ended without being told to; the process ends", name)
    ctx.stop.set()
    late = await _drain(tasks, drain_s)
    told.set()
    if answering:
        late += await _drain(answering, _HEALTH_S)
    tasks += answering
    for name in late:
        log.error("%s did not drain within %.0f s and was cancelled", name, drain_s)
    failed = [task.get_name() for task in tasks if not task.cancelled() and task.exception() is not None]
    for task in tasks:
        if task.get_name() in failed:
            log.error("%s failed", task.get_name(), exc_info=task.exception())
    return Exit.CRASHED if crashed or late or failed else Exit.WELL


async def _role(ctx: RoleContext, name: str, role: Role) -> None:
    running = asyncio.ensure_future(_awaited(role(ctx)))
    await asyncio.sleep(0)  # the role has declared its own conditions before it first waits
    ctx.health.ok(f"role {name}")
    try:
        await running
    except asyncio.CancelledError:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        raise
    finally:
        ctx.health.bad(f"role {name}", "ended")


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _health(ctx: RoleContext, port: int, host: str | None) -> Coroutine[Any, Any, None]:
    from nexafi.http import serve_health

    return serve_health(ctx, port, host=host)


async def _drain(tasks: list[asyncio.Task[None]], drain_s: float) -> list[str]:
    """Wait for ``tasks``, cancel what is left; returns the names of those."""
    _, pending = await asyncio.wait(tasks, timeout=drain_s)
    if pending:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=_CANCEL_S)
    return sorted(task.get_name() for task in pending)


async def _with_signals(
    roles: dict[str, Role], settings: Settings, health_port: int | None, host: str | None
) -> Exit:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told(number: int) -> None:
        log.info("told to stop by %s", signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)
    return await run_roles(roles, settings, health_port=health_port, health_host=host, stop=stop)


def run(names: list[str], *, health_port: int | None = None, health_host: str | None = None) -> Exit:
    """Run the roles ``names`` in this process until a signal comes. Returns the exit status."""
    from nexafi import logs, telemetry

    faulthandler.enable()
    settings = Settings()
    label = names[0] if len(names) == 1 else settings.instance
    logs.configure(settings, label)
    telemetry.configure(settings, label)
    begun = time.monotonic()
    if complaint := settings.complaint():
        log.error("%s", complaint)
        print(complaint, file=sys.stderr, flush=True)
        return Exit.BROKEN
    try:
        roles = {name: load(name) for name in dict.fromkeys(names)}
    except RoleMissingError as error:
        log.error("%s", error)
        print(error, file=sys.stderr, flush=True)
        return Exit.BROKEN
    if why := _forbidden(names, settings):
        log.error("%s", why)
        print(why, file=sys.stderr, flush=True)
        return Exit.CRASHED  # whoever starts us may try again: the restore ends some time
    log.info("starting %s (imported in %.1f s)", ", ".join(roles), time.monotonic() - begun)
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        return runner.run(_with_signals(roles, settings, health_port, health_host))


def _forbidden(names: list[str], settings: Settings) -> str:
    """Why these roles must not start on this database: it holds a restore that has not ended. Empty: they may."""
    if set(names) <= WITHOUT_DATABASE:
        return ""
    import psycopg

    from events.backup import marker

    try:
        marker.refuse(settings.database)
    except marker.RestoreUnfinishedError as error:
        return str(error)
    except psycopg.OperationalError as error:
        log.warning("the database does not answer yet: %s", error)  # roles wait for it; writers look again
    return ""


def _fast_loop() -> Any:
    """uvloop's loop where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def main() -> int:
    """Entry point of a process of the local stack: no command line library is loaded."""
    parser = argparse.ArgumentParser()
    parser.add_argument("roles", nargs="+")
    parser.add_argument("--health-port", type=int)
    parser.add_argument("--health-host")
    options = parser.parse_args()
    return run(options.roles, health_port=options.health_port, health_host=options.health_host)


if __name__ == "__main__":
    sys.exit(main())
