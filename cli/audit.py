"""``nexafi audit``: does history still say what was written, and can a line of it be proven?"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import audit_files, audit_proofs
from cli.audit_sources import (
    WRONG,
    HeadsOption,
    KeysOption,
    could_not,
    public_keys,
    signed_heads,
)

if TYPE_CHECKING:
    from events.verify import ShardReport
    from nexafi.settings import Settings

app = typer.Typer(help="Verify stored history, and prove a line of it.", no_args_is_help=True)


@app.callback()
def audit() -> None:
    """For auditors: nothing here changes a store."""


audit_files.add_to(app)
audit_proofs.add_to(app)


@app.command()
def verify(
    service: Annotated[list[str] | None, typer.Option(help="Only this service (repeat for more).")] = None,
    shard: Annotated[list[int] | None, typer.Option(help="Only this shard (repeat for more).")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(help="Only what was recorded from this time on (UTC), on the snapshot before it."),
    ] = None,
    views: Annotated[bool, typer.Option("--views", help="Compare projected balances, too.")] = False,
    export: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Check this exported file instead (repeat for more)."),
    ] = None,
    heads: HeadsOption = "topic",
    keys: KeysOption = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; default: one for each core.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line for each shard.")] = False,
) -> None:
    """Recompute hashes, positions, versions, balances and snapshots of every store, up to its head of now.

    Compares the stores with the signed heads on `nexafi.heads` (or in a file of `nexafi audit heads`). With
    `--export` nothing but the files is read: no server is needed. Exit status: 0 sound, 1 something is wrong,
    3 it could not be checked.
    """
    begun = time.perf_counter()
    if export:
        reports = _reports_of_files(export, heads, keys)
    else:
        since_us = None if since is None else int(since.replace(tzinfo=UTC).timestamp() * 1_000_000)
        reports = _reports_of_stores(service, shard, since_us, views, heads, keys, jobs)
    shown = _Shown(as_json)
    for report in reports:
        shown.add(report)
    raise typer.Exit(shown.end(time.perf_counter() - begun))


class _Shown:
    """Prints reports and counts."""

    def __init__(self, as_json: bool) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True)
        self._json = as_json
        self._wrong = self._events = self._shards = self._unsigned = 0

    def add(self, report: ShardReport) -> None:
        self._events += report.events
        self._shards += 1
        self._wrong += report.problem is not None
        if self._json:
            print(json.dumps(asdict(report)), flush=True)
            return
        place = f"{report.service}/{report.shard}" if report.shard >= 0 else report.service
        if report.problem is not None:
            self._console.print(f"[bold red]WRONG[/] {place}: {report.problem}", markup=True)
        elif report.position:
            self._unsigned += report.signed_position == 0
            parts = [f"{report.events} events in {report.batches} batches", f"{report.snapshots} snapshots"]
            if report.signed_position:
                parts.append(f"signed up to {report.signed_position}")
            if report.views:
                parts.append("views equal")
            if not report.replayed:
                parts.append("not replayed: no snapshot before")
            self._console.print(f"ok    {place}: {', '.join(parts)}, chain {report.chain_hash[:16]}")

    def end(self, took: float) -> int:
        if not self._json:
            if self._unsigned:
                self._console.print(
                    f"{self._unsigned} shards have no signed head to be compared with: a superuser who "
                    "rewrites or cuts the whole of a history is not found there."
                )
            rate = self._events / max(took, 1e-9)
            self._console.print(
                f"{self._events} events verified in {took:.2f} s ({rate:,.0f}/s), {self._wrong} shards wrong"
            )
        return WRONG if self._wrong else 0


def _reports_of_stores(
    services: list[str] | None,
    shards: list[int] | None,
    since_us: int | None,
    views: bool,
    heads: str,
    keys: Path | None,
    jobs: int | None,
) -> Iterator[ShardReport]:
    import psycopg

    from cli.deciders import DECIDERS, decider_of
    from events.verify_pool import Scope, verify_stores
    from nexafi.settings import Settings

    settings, names = Settings(), services or list(DECIDERS)
    if unknown := [n for n in names if n not in DECIDERS]:
        raise typer.BadParameter(f"There is no service {unknown[0]!r}; there are {', '.join(DECIDERS)}.")
    # In this order, so that whatever heads and views say lies below the bounds that are read after them.
    book = signed_heads(settings, heads, keys)
    pins = book.pins() if book is not None else {}
    try:
        scope = Scope(shards, since_us, pins, _probes(settings) if views else {})
        yield from verify_stores(settings.database, [decider_of(n) for n in names], scope, jobs=jobs)
    except psycopg.Error as error:
        raise could_not(f"the database: {error}") from error


def _probes(settings: Settings) -> Any:
    from cli.audit_views import read_views

    return read_views(settings.database)


def _reports_of_files(files: list[Path], heads: str, keys: Path | None) -> Iterator[ShardReport]:
    from cli.deciders import DECIDERS, decider_of
    from events.export import exported_service, verify_file
    from nexafi.settings import Settings

    settings = Settings()
    book = None if heads == "topic" else signed_heads(settings, heads, keys)
    known = public_keys(settings, keys)
    for path in files:
        service = exported_service(path)
        decider = decider_of(service) if service in DECIDERS else None
        yield verify_file(path, decider, keys=known, trusted=book)
