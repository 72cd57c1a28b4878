"""The ``nexafi`` command.

Sub-commands live in modules of their own that are imported when used, so that ``nexafi --help`` is quick.
To add one: write ``cli/<module>.py`` with ``app = typer.Typer(...)`` and name it in :data:`SUBCOMMANDS`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cli import local
from cli.examples import decorate
from cli.unreachable import explain

_STACK = "Local stack"
_OPERATE = "Operate"
_HISTORY = "History"

#: Command -> (module with ``app``, panel of the help, what it does). A module that is absent is not shown.
SUBCOMMANDS: dict[str, tuple[str, str, str]] = {
    "teststack": ("cli.teststack", _STACK, "Keep real servers for tests running between pytest runs."),
    "audit": ("cli.audit", _HISTORY, "Verify the history, and prove a line of it."),
    "replay": ("cli.replay", _HISTORY, "What was known at a time, proven."),
    "projections": ("cli.projections", _HISTORY, "Verify, rebuild and switch views."),
    "dead-letters": (
        "cli.dead_letters",
        _OPERATE,
        "Look at messages that were set aside, and send them again.",
    ),
    "backup": ("cli.backup", _OPERATE, "Back up all event stores while the platform works."),
    "restore": ("cli.restore", _OPERATE, "Restore a backup, roll it forward from Kafka, verify."),
    "import": ("cli.importer", _OPERATE, "Import data of another system."),
    "auth": ("cli.auth", _OPERATE, "Clients, API keys and signing keys."),
}


class _Later(TyperGroup):
    """Stands for a sub-command until it is used; then the real one takes over."""

    def __init__(self, name: str, module: str, panel: str, summary: str) -> None:
        super().__init__(name=name, help=summary, rich_help_panel=panel)
        self._module = module

    def real(self) -> Any:
        """The command that this one stands for."""
        command = typer.main.get_command(importlib.import_module(self._module).app)
        decorate(command, f"nexafi {self.name}")
        return command

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Import the module and go on with its command."""
        command = self.real()
        return command.make_context(info_name, args, parent=parent, **extra)


class _Root(TyperGroup):
    """The commands of this file, and those of the modules that are there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        here = Path(__file__).parent
        for name, (module, panel, summary) in SUBCOMMANDS.items():
            part = here / module.rpartition(".")[2]
            if part.with_suffix(".py").exists() or (part / "__init__.py").exists():
                self.commands[name] = _Later(name, module, panel, summary)
        decorate(self, "nexafi")

    def invoke(self, ctx: Any) -> Any:
        """Run the command; that a server can not be reached is no defect of ours, so it comes without a traceback."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            line = explain(error)
            if line is None:
                raise
            typer.echo(line, err=True)
            raise typer.Exit(1) from error

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is typer's
        """In the order in which they were added, which is the order of use."""
        return list(self.commands)


app = typer.Typer(
    name="nexafi",
    cls=_Root,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,
)


@app.callback()
def root() -> None:
    """[bold]NexaFi[/]: an event-sourced financial platform.

    Start with [bold]nexafi up[/], look with [bold]nexafi status[/], end with [bold]nexafi down[/]. Every setting is a
    variable NEXAFI_...; docs/reference/settings.md has them all.

    Exit status: 0 all is well, 1 something is wrong (the last line says what), 2 a wrong argument or nothing was done,
    78 a role that can not start however often it is tried, 130 Ctrl-C.
    """
    for name, value in _own_environment():
        os.environ.setdefault(name, value)


def _own_environment() -> Iterator[tuple[str, str]]:
    """What the roles of this checkout's local stack see, so that a command on the same machine sees it too."""
    from cli.stack import secrets
    from cli.stack.paths import Layout, data_dir

    folder = data_dir()
    if folder.is_dir():
        yield "NEXAFI_DATA_DIR", str(folder)
        yield from secrets.for_roles(Layout(folder, folder, None)).items()


local.add_to(app, panel=_STACK)


@app.command(rich_help_panel=_OPERATE)
def run(
    roles: Annotated[
        list[str], typer.Argument(help="Roles that share this process; `nexafi roles` lists them.")
    ],
    health_port: Annotated[int | None, typer.Option(help="Port of /healthz, /readyz and /metrics.")] = None,
    health_host: Annotated[str | None, typer.Option(help="Address that they listen on.")] = None,
) -> None:
    """Run roles in this process until SIGTERM; then drain and end.

    Ready (/readyz) when all conditions of all roles hold. Exit status: 0 told to end and drained, 1 a role ended by
    itself or did not drain within 15 s (start it again), 78 there is no such role (do not).
    """
    from cli.runner import run as run_until_told

    raise typer.Exit(run_until_told(roles, health_port=health_port, health_host=health_host))


@app.command(rich_help_panel=_OPERATE)
def migrate() -> None:
    """Bring event stores, topics and views up to this release. Safe to repeat; makes no users.

    Run it once before the roles of a release start, with the same settings as theirs.
    """
    from cli.bootstrap import STEPS, run_step
    from nexafi.settings import Settings

    settings = Settings()
    for step in STEPS:
        if not step.after_roles:
            run_step(step, settings)


@app.command(rich_help_panel=_OPERATE)
def roles() -> None:
    """List the roles, their code, and the processes of the local stack that they share."""
    from rich.console import Console
    from rich.table import Table

    from cli.roles import GROUPS, ROLES

    table = Table("role", "code", "process of the local stack", box=None, header_style="bold")
    for role, code in ROLES.items():
        table.add_row(role, code, ", ".join(name for name, group in GROUPS.items() if role in group.roles))
    Console().print(table)
