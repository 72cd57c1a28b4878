"""``nexafi backup``: a consistent copy of all event stores, made while the platform works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Back up all event stores while the platform works.")


@app.command()
def backup(
    to: Annotated[Path, typer.Option(help="Folder for the backup; absent or empty.")],
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the last line.")] = False,
) -> None:
    """Back up all event stores at one moment, while the platform works.

    The folder gets one file for each table and, last, a sealed manifest with the SHA-256 of each. Copy the folder
    where you like (object storage included). Keys and secrets are not in it: keep NEXAFI_HMAC_KEY and the signing
    keys where you keep secrets. Views and search are not in it either: they are made again from the events.
    """
    from rich.console import Console

    from events.backup.dumping import take_backup
    from events.backup.manifest import BackupError
    from events.backup.marker import RestoreUnfinishedError
    from nexafi.settings import Settings

    console = Console(highlight=False)
    say = (lambda _text: None) if quiet else console.print
    try:
        done = take_backup(Settings(), to, progress=say)
    except (BackupError, RestoreUnfinishedError) as error:
        console.print(f"[bold red]no backup:[/] {error}")
        raise typer.Exit(1) from None
    manifest, events = done.manifest, done.manifest.events
    rows = sum(f.rows for s in manifest.stores for f in s.tables)
    console.print(
        f"backup {manifest.id} of {manifest.made_at}: {events:,} events, {rows:,} rows, {done.size / 1e6:,.1f} MB in "
        f"{done.seconds:.2f} s ({events / max(done.seconds, 1e-9):,.0f} events/s)"
    )
