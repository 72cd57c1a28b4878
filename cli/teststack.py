"""`nexafi teststack`: servers that stay between pytest runs, so that the inner loop takes no start."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(help="Keep real servers for tests running between pytest runs.", no_args_is_help=True)
console = Console()


@app.command()
def up(
    port_base: Annotated[
        int | None, typer.Option(help="First port; a free range is found when left out.")
    ] = None,
) -> None:
    """Start the servers that the pytest fixture `stack` then uses."""
    from cli.stack import testing

    stack = testing.running_shared()
    if stack is None:
        stack = testing.start_servers(data_dir=testing.shared_data_dir(), port_base=port_base, bound=False)
    for name, value in testing.environment(stack.settings).items():
        console.print(f"{name}={value}", highlight=False, soft_wrap=True)
    console.print("pytest finds them by itself; NEXAFI_TEST_STACK=none starts fresh ones.", style="dim")


@app.command()
def down(keep: Annotated[bool, typer.Option("--keep", help="Keep their data.")] = False) -> None:
    """End the servers and remove their data."""
    from cli.stack import control, testing
    from cli.stack.paths import Layout

    root: Path = testing.shared_data_dir()
    was_running = control.stop(Layout.here(root)) if root.exists() else False
    if root.exists() and not keep:
        shutil.rmtree(root)
    console.print("Test servers ended." if was_running else "No test servers ran.")
