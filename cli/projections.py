"""``nexafi projections``: how far the views are, whether they drifted, and making them anew.

Views whose names begin with ``search-`` are Elasticsearch indices; they mirror PostgreSQL views.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from nexafi.settings import get_settings
from projections import rebuild as views
from projections.digests import Comparison
from projections.registry import VIEWS
from projections.search import rebuild as search
from projections.search.documents import INDICES, index_of
from projections.versions import RebuildRunningError

app = typer.Typer(no_args_is_help=True, help="Verify, rebuild and switch views.")
console = Console()
if not console.is_terminal:
    console.width = 160  # a log or a pipe: columns need not be squeezed
_DRIFT = 1
_REFUSED = 2
_SEARCH = {index.view for index in INDICES}
_NAMES = [*VIEWS, *sorted(_SEARCH)]
ViewName = Annotated[str, typer.Argument(help=f"One of {', '.join(_NAMES)}.")]


def _known(name: str) -> str:
    if name not in _NAMES:
        raise typer.BadParameter(f"there is no view {name!r}; there are {', '.join(_NAMES)}")
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
    """Find drift, row by row and document by document. Ends with 1 when something differs.

    A PostgreSQL view is replayed into scratch tables; a search index is compared with the rows that it mirrors.
    """
    drifted = False
    for name in [_known(view)] if view else _NAMES:
        try:
            if name in _SEARCH:
                comparison = asyncio.run(search.verify(get_settings(), index_of(name)))
                drifted |= _report(name, comparison, "index", "rows")
            else:
                with _bar(name) as progress:
                    comparison = asyncio.run(views.verify(get_settings(), name, progress=progress))
                drifted |= _report(name, comparison, "live", "replayed")
        except (RebuildRunningError, LookupError) as error:
            console.print(f"[red]{error}[/]")
            raise typer.Exit(_REFUSED) from None
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
    """Make a view anew beside the live one, compare, switch. Ends with 2, and changes nothing, when rows differ.

    A search index is compared with the rows that it mirrors. When rows of a view were mended, so are its indices.
    """
    _known(view)
    try:
        if view in _SEARCH:
            _rebuild_index(view, keep=keep)
            return
        with _bar(view) as progress:
            comparison = asyncio.run(_rebuild_view(view, progress, keep=keep, accept=accept_differences))
    except views.DifferentError as error:
        _report(view, error.comparison, "live", "new")
        console.print("[red]Not switched.[/] If the live version is the wrong one: --accept-differences.")
        raise typer.Exit(_REFUSED) from None
    except (RebuildRunningError, search.IndexDifferentError) as error:
        console.print(f"[red]{error}[/]")
        raise typer.Exit(_REFUSED) from None
    if comparison.digest:
        _report(view, comparison, "old", "new")
    console.print(f"[green]{view} is switched.[/]")
    if not comparison.equal:
        for index in INDICES:
            if index.of_view == view:
                _rebuild_index(index.view, keep=keep)


async def _rebuild_view(view: str, progress: views.Progress, *, keep: bool, accept: bool) -> Comparison:
    settings = get_settings()
    return await views.rebuild(
        settings,
        view,
        keep=keep,
        accept_differences=accept,
        compare_first=await views.readable(settings, view),
        progress=progress,
    )


def _rebuild_index(view: str, *, keep: bool) -> None:
    with _bar(view) as progress:
        version = asyncio.run(search.rebuild(get_settings(), index_of(view), keep=keep, progress=progress))
    console.print(f"[green]{view} is switched to version {version.version}.[/]")


@app.command()
def switch(
    view: ViewName,
    back: Annotated[bool, typer.Option("--back", help="To the version that was live before.")] = False,
) -> None:
    """Switch back to the version that `rebuild` kept, after it has caught up. What was live is kept in turn."""
    _known(view)
    if not back:
        raise typer.BadParameter("`rebuild` switches forwards; here only --back is there")
    try:
        if view in _SEARCH:
            version = asyncio.run(search.go_back(get_settings(), index_of(view)))
        else:
            with _bar(view) as progress:
                version = asyncio.run(views.go_back(get_settings(), view, progress=progress))
    except (LookupError, RebuildRunningError) as error:
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
