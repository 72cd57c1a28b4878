"""``nexafi audit``: does history still say what was written?"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

app = typer.Typer(help="Verify stored history.", no_args_is_help=True)


@app.callback()
def audit() -> None:
    """For auditors: nothing here writes."""


@app.command()
def verify(
    service: Annotated[list[str] | None, typer.Option(help="Only this service (repeat for more).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line for each shard.")] = False,
) -> None:
    """Recompute hashes, positions, versions, balances and snapshots of every store; exit 1 when one differs."""
    from rich.console import Console

    from cli.deciders import DECIDERS, decider_of
    from events.store.recorder import ShardRecorder, open_datastore
    from events.verify import verify_store
    from nexafi.settings import Settings

    console, settings = Console(highlight=False), Settings()
    wrong, events, begun = 0, 0, time.perf_counter()
    for name in service or list(DECIDERS):
        if name not in DECIDERS:
            raise typer.BadParameter(f"There is no service {name!r}; there are {', '.join(DECIDERS)}.")
        recorder = ShardRecorder(open_datastore(settings.database, name), service=name)
        for report in verify_store(recorder, decider_of(name)):
            events += report.events
            wrong += report.problem is not None
            if as_json:
                print(json.dumps(asdict(report)))
            elif report.problem is not None:
                console.print(f"[bold red]WRONG[/] {name}/{report.shard}: {report.problem}")
            elif report.events:
                console.print(
                    f"ok    {name}/{report.shard}: {report.events} events in {report.batches} batches, "
                    f"{report.snapshots} snapshots, chain {report.chain_hash[:16]}"
                )
        recorder.datastore.close()
    if not as_json:
        took = time.perf_counter() - begun
        console.print(
            f"{events} events verified in {took:.2f} s ({events / max(took, 1e-9):,.0f}/s), {wrong} shards wrong"
        )
    raise typer.Exit(1 if wrong else 0)
