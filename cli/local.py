"""Commands of the local stack: up, down, status, logs, doctor, reset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from cli.stack.paths import Layout
    from cli.stack.state import StackState
    from nexafi.settings import Settings

_UP_TIMEOUT_S = 240.0


def add_to(app: typer.Typer, *, panel: str) -> None:
    """Add these commands to ``app`` under the heading ``panel``."""
    for command in (up, down, status, logs, doctor, reset):
        app.command(rich_help_panel=panel)(command)


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a log or a pipe: columns need not be squeezed
    return console


def _here() -> tuple[Layout, Settings]:
    from cli.stack.paths import Layout
    from nexafi.settings import Settings

    layout = Layout.here()
    return layout, Settings(data_dir=layout.root)


def up(
    foreground: Annotated[bool, typer.Option("--foreground", "-f", help="Stay; Ctrl-C ends all.")] = False,
    servers_only: Annotated[bool, typer.Option("--servers-only", help="Start no roles.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Start only this group of roles (repeat for more).")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until all works.")] = _UP_TIMEOUT_S,
) -> None:
    """Start everything: real PostgreSQL, Kafka, Valkey and Elasticsearch, then all roles.

    Returns when all works and prints addresses, where the credentials are, and a request to paste. An address in the
    environment (NEXAFI_DATABASE_URL, NEXAFI_KAFKA_BOOTSTRAP, ...) replaces that server. Exit status: 0 all works, 1 not,
    2 no such group, 130 Ctrl-C (and what was started has ended).
    """
    from cli import view
    from cli.roles import GROUPS
    from cli.stack import control, servers, state

    console = _console()
    layout, settings = _here()
    groups = [] if servers_only else only or list(GROUPS)
    if unknown := set(groups) - set(GROUPS):
        console.print(f"[red]No such group: {', '.join(unknown)}. The groups are {', '.join(GROUPS)}.[/]")
        raise typer.Exit(2)
    started = False
    try:
        started = control.start(
            layout,
            settings,
            server_names=list(servers.SERVERS),
            group_names=groups,
            console=console,
            env={"NEXAFI_DATA_DIR": str(layout.root)},
            bound_to_caller=foreground,
        )
        if not started:
            console.print("It runs already.")
        with view.Watch(console) as watch:
            found = control.wait_ready(layout, timeout_s=timeout, show=watch.show)
        view.print_ready(console, found, settings, layout)
        if foreground and started:
            _stay(layout, console)
    except KeyboardInterrupt:
        if started:
            console.print("\nStopping ...")
            control.stop(layout)
        raise typer.Exit(130) from None
    except (control.StartError, RuntimeError) as error:
        console.print(str(error), style="red", markup=False)
        if state.is_running(layout.run):
            console.print(
                "What did start still runs: look with ./dev status and ./dev logs, end it with ./dev down."
            )
        raise typer.Exit(1) from error
    if not found.ready():
        raise typer.Exit(1)


def _stay(layout: Layout, console: Console) -> None:
    """Wait until the supervisor ends by itself; Ctrl-C is the caller's to handle."""
    import time

    from cli.stack import state

    console.print("Ctrl-C ends all.", style="dim")
    while state.is_running(layout.run):
        time.sleep(0.3)
    raise RuntimeError("the supervisor ended; ./dev logs supervisor says why")


def down() -> None:
    """End everything in order; data stays.

    Roles drain first: what was acknowledged is stored, what was not is taken up by the next start.
    """
    from cli.stack import control

    console = _console()
    layout, _ = _here()
    with console.status("Stopping"):
        was_running = control.stop(layout)
    console.print("Stopped; the data stays." if was_running else "Nothing ran.")


def status(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show each process: pid, port, uptime, memory, health, restarts.

    Exit status: 0 everything works, 1 something does not, or nothing runs.
    """
    from cli import view
    from cli.stack import state

    layout, _ = _here()
    found = state.read(layout.run)
    running = state.is_running(layout.run)
    if as_json:
        print("{}" if found is None or not running else found.model_dump_json(indent=1, exclude={"demo"}))
    elif found is None or not running:
        view.print_not_running(_console(), found)
    else:
        view.print_status(_console(), found)
    raise typer.Exit(0 if running and _works(found) else 1)


def _works(found: StackState | None) -> bool:
    return found is not None and found.ready()


def logs(
    name: Annotated[
        str | None, typer.Argument(help="A process of `nexafi status`, or supervisor; all when left out.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written next.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Lines of the past, for each process.")] = 40,
) -> None:
    """Show what processes wrote.

    Logs are JSON lines without personal data, cut at a bounded size; the correlation id leads through all of them.
    """
    from cli import view
    from cli.roles import GROUPS

    layout, _ = _here()
    if name is not None and not (layout.logs / f"{name}.log").exists():
        name = next((group for group, members in GROUPS.items() if name in members.roles), name)
    files = sorted(layout.logs.glob("*.log" if name is None else f"{name}.log"))
    if not files:
        known = ", ".join(sorted(file.stem for file in layout.logs.glob("*.log"))) or "none yet"
        _console().print(f"There is no log of {name or 'anything'}. Logs: {known}.")
        raise typer.Exit(1)
    try:
        view.print_logs(_console(), files, lines=lines, follow=follow)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def doctor() -> None:
    """Check this machine and the running stack; each problem comes with how to mend it.

    It changes nothing. Exit status: 0 nothing to mend, 1 something is.
    """
    from cli import view
    from cli.stack import doctor as checks

    layout, settings = _here()
    console = _console()
    wrong = 0
    for finding in checks.examine(layout, settings):
        view.print_finding(console, finding)
        wrong += finding.severity == "bad"
    console.print("\nAll is well." if not wrong else f"\n{wrong} thing(s) to mend.")
    raise typer.Exit(1 if wrong else 0)


def reset(yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Stop, then remove all data of this checkout. Downloads stay."""
    from cli.stack import control

    console = _console()
    layout, _ = _here()
    if not layout.root.exists():
        console.print("There is no data.")
        return
    if not yes:
        typer.confirm(f"Remove all data in {layout.root}?", abort=True)
    control.stop(layout)
    try:
        layout.wipe()
    except RuntimeError as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from error
    console.print(f"Removed the data in {layout.root}.")
