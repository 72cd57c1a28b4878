"""``nexafi projections``: how far the views are, whether they drifted, and making them anew."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from nexafi.settings import get_settings
from projections.digests import Comparison
from projections.registry import VIEWS

app = typer.Typer(no_args_is_help=True, help="Verify, rebuild and switch views.")
console = Console()
_DRIFT = 1
_REFUSED = 2
ViewName = Annotated[str, typer.Argument(help=f"One of {', '.join(VIEWS)}.")]


def _known(name: str) -> str:
    if name not in VIEWS:
        raise typer.BadParameter(f"there is no view {name!r}; there are {', '.join(VIEWS)}")
    return name


@app.command()
def status() -> None:
    """Each view: version, positions, events behind the stores, rows, dead letters."""
    from projections.status import collect

    table = Table(title="Views")
    for column in (
        "view",
        "version",
        "code",
        "state",
        "taken in",
        "behind",
        "last event",
        "rows",
        "set aside",
    ):
        table.add_column(column, justify="left" if column in ("view", "state") else "right")
    for line in asyncio.run(collect(get_settings())):
        table.add_row(
            line.view,
            str(line.version),
            f"{line.code}{'' if line.code == line.newest_code else f' ({line.newest_code} is there: rebuild)'}",
            line.state,
            f"{line.position:,}",
            "" if line.behind is None else f"{line.behind:,}",
            line.last_event,
            f"{line.rows:,}",
            str(line.dead_letters or ""),
        )
    console.print(table)


@app.command()
def verify(
    view: Annotated[str | None, typer.Argument(help="A view; all of them when absent.")] = None,
) -> None:
    """Find drift: replay into scratch tables and compare row by row. Ends with 1 when rows differ."""
    from projections.rebuild import verify as run

    drifted = False
    for name in [_known(view)] if view else list(VIEWS):
        with _bar(name) as progress:
            comparison = asyncio.run(run(get_settings(), name, progress=progress))
        drifted |= _report(name, comparison, "live", "replayed")
    if drifted:
        console.print("Mend it with [bold]nexafi projections rebuild <view> --accept-differences[/].")
        raise typer.Exit(_DRIFT)


@app.command()
def rebuild(
    view: ViewName,
    keep: Annotated[
        bool, typer.Option("--keep/--drop", help="Keep the old version for `switch --back`, or drop it.")
    ] = True,
    accept_differences: Annotated[
        bool, typer.Option(help="Switch although rows differ: the live version is the one that is wrong.")
    ] = False,
) -> None:
    """Make a view anew beside the live one, compare, switch. Ends with 2, and changes nothing, when rows differ."""
    from projections.rebuild import DifferentError, readable
    from projections.rebuild import rebuild as run

    _known(view)
    try:
        with _bar(view) as progress:
            comparison = asyncio.run(
                run(
                    get_settings(),
                    view,
                    keep=keep,
                    accept_differences=accept_differences,
                    compare_first=asyncio.run(readable(get_settings(), view)),
                    progress=progress,
                )
            )
    except DifferentError as error:
        _report(view, error.comparison, "live", "new")
        console.print("[red]Not switched.[/] If the live version is the wrong one: --accept-differences.")
        raise typer.Exit(_REFUSED) from None
    if comparison.digest:
        _report(view, comparison, "old", "new")
    console.print(f"[green]{view} is switched.[/]")


@app.command()
def switch(
    view: ViewName,
    back: Annotated[bool, typer.Option("--back", help="To the version that was live before.")] = False,
) -> None:
    """Switch back to the version that `rebuild` kept, after it has caught up. What was live is kept in turn."""
    from projections.rebuild import NothingKeptError, go_back

    _known(view)
    if not back:
        raise typer.BadParameter("`rebuild` switches forwards; here only --back is there")
    try:
        with _bar(view) as progress:
            version = asyncio.run(go_back(get_settings(), view, progress=progress))
    except NothingKeptError as error:
        console.print(f"[red]{error}[/]")
        raise typer.Exit(_REFUSED) from None
    console.print(f"[green]{view} is at version {version.version} again.[/]")


class _bar:  # noqa: N801 - reads as a function
    """A progress bar of events; calling it moves it."""

    def __init__(self, name: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task(name, total=None, rate="")

    def __enter__(self) -> _bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        task = self._progress.tasks[0]
        rate = f"{done / task.elapsed:,.0f} events/s" if task.elapsed else ""
        self._progress.update(self._task, completed=done, total=total, rate=rate)


def _report(name: str, comparison: Comparison, first: str, second: str) -> bool:
    """Print what a comparison came to; whether rows differ."""
    if comparison.equal:
        console.print(f"{name}: {comparison.rows:,} rows are equal ({comparison.digest})")
        return False
    for difference in comparison.differences:
        console.print(f"  {difference}", markup=False)
    for table, count in comparison.counts.items():
        console.print(f"[red]{name}.{table}: {count:,} rows differ[/] ({first} against {second})")
    return True
