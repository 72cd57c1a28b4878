"""Having every program there before a server starts, with progress that a person can follow."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cli.stack import artifacts, programs
from cli.stack.paths import Layout, unreachable

#: Parts of the artifact list that a server needs.
_PARTS = {"kafka": "kafka", "elasticsearch": "elasticsearch"}


def provision(layout: Layout, servers: set[str], console: Console) -> programs.Programs:
    """Fetch, unpack and copy what ``servers`` need; does nothing when all is there."""
    parts = {_PARTS[name] for name in servers if name in _PARTS}
    with artifacts.cache_lock(layout.cache):
        if layout.account is not None:
            layout.cache.chmod(0o755)
            if problem := unreachable(layout.cache):
                raise RuntimeError(
                    f"The cache {layout.cache} can not be reached by the account {layout.account.name}: {problem} is "
                    "private. Set NEXAFI_CACHE_DIR to another folder."
                )
        if wanted := artifacts.missing(layout.cache, parts):
            _fetch(layout, wanted, console)
        if "elasticsearch" in parts:
            (archive,) = artifacts.of_part("elasticsearch")
            if not artifacts.unpacked(layout.cache, archive).exists():
                with console.status("Unpacking Elasticsearch"):
                    artifacts.unpack(layout.cache, archive)
        programs.copy_unreachable(layout)
    return programs.locate(layout)


def _fetch(layout: Layout, wanted: list[artifacts.Artifact], console: Console) -> None:
    total = sum(artifact.size for artifact in wanted)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    if not console.is_terminal:
        console.print(f"Fetching {len(wanted)} files ({total / 1e6:.0f} MB) of Kafka and Elasticsearch, once")
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"Fetching {len(wanted)} files", total=total)
        artifacts.fetch(layout.cache, wanted, lambda count: progress.advance(task, count))
