"""``nexafi restore``: a backup becomes a platform again, and says what it could not bring back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from events.backup.lineage import Lineage
from events.backup.manifest import BackupError, Manifest
from events.backup.report import RestoreReport
from nexafi.settings import Settings

app = typer.Typer(help="Restore a backup, roll it forward from Kafka, verify.")
Say = Callable[[str], None]


class Exit(IntEnum):
    """Exit statuses of a restore."""

    COMPLETE = 0
    REFUSED = 1
    #: Restored, verified and ready; the report names what is not back.
    WITH_LOSSES = 3


@app.command()
def restore(
    source: Annotated[Path, typer.Option("--from", help="Folder of the backup.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace stores that hold events, and end who uses the database.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check seal and digests; change nothing.")
    ] = False,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss", help="Go on where an events topic breaks off; the report says what is gone."
        ),
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write what was done and lost as JSON.")] = None,
) -> None:
    """Restore all event stores, roll them forward from Kafka, verify everything, then let roles start.

    Stop the roles first. Exit status: 0 everything acknowledged is back, 3 restored with losses that the report
    names, 1 refused or failed (nothing becomes ready; run it again).
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    try:
        done = run(Settings(), source, force=force, check=check, accept_loss=accept_loss, say=console.print)
    except BackupError as error:
        console.print(f"[bold red]not restored:[/] {error}")
        raise typer.Exit(Exit.REFUSED) from None
    if done is None:
        raise typer.Exit(Exit.COMPLETE)
    if report is not None:
        report.write_text(json.dumps(done.as_dict(), indent=1) + "\n")
    _summary(done, console.print)
    raise typer.Exit(Exit.COMPLETE if done.complete else Exit.WITH_LOSSES)


def run(
    settings: Settings,
    source: Path,
    *,
    force: bool = False,
    check: bool = False,
    accept_loss: bool = False,
    say: Say = lambda _text: None,
) -> RestoreReport | None:
    """The whole restore; ``None`` after a mere check. :class:`BackupError` when it is refused or fails."""
    from events.backup.loading import load_stores
    from events.backup.manifest import check_files, read_manifest
    from events.migrations import migrate
    from events.topics import ensure_topics

    began = time.perf_counter()
    manifest = read_manifest(source, settings)
    read = check_files(source, manifest)
    checked_s = time.perf_counter() - began
    say(
        f"backup {manifest.id} of {manifest.made_at}: {manifest.events:,} events; seal and digests of {read / 1e6:,.1f} MB "
        f"are right ({checked_s:.2f} s)"
    )
    if check:
        return None
    _clear_the_way(settings, manifest, force, say)
    began = time.perf_counter()
    load_stores(settings, source, manifest, say)
    loaded_s = time.perf_counter() - began
    services = tuple(s.service for s in manifest.stores)
    migrate(settings, services)
    made = asyncio.run(ensure_topics(settings, services))
    if made:
        say(f"topics made anew, because Kafka did not have them: {', '.join(sorted(made))}")
    report = asyncio.run(_bring_back(settings, manifest, accept_loss, say))
    report.seconds |= {"checked": round(checked_s, 2), "loaded": round(loaded_s, 2)}
    return report


def _clear_the_way(settings: Settings, manifest: Manifest, force: bool, say: Say) -> None:
    """Refuse to replace events, and to work beside others, unless told to; end the others then."""
    from events.backup import loading, marker

    with psycopg.connect(settings.database, application_name="nexafi-restore", autocommit=True) as conn:
        begun = marker.unfinished(conn)
        if begun is not None:
            say(f"a restore of backup {begun} had not ended; starting anew")
        elif loading.stored_events(conn, manifest) and not force:
            raise BackupError("the stores are not empty; --force replaces what they hold")
        others = loading.others(conn)
        if others and not force:
            names = ", ".join(sorted({name for _, name in others}))
            raise BackupError(f"the database is in use by {names}: stop the roles (--force ends them)")
        if ended := loading.end_others(conn):
            say(f"ended {ended} connections to the database")


async def _bring_back(settings: Settings, manifest: Manifest, accept_loss: bool, say: Say) -> RestoreReport:
    from cli.deciders import working_decider_of
    from events.backup.restoring import Restore
    from events.supersede import after_restore
    from projections.migrations import migrate as migrate_views

    deciders = {
        s.service: await asyncio.to_thread(working_decider_of, s.service, settings) for s in manifest.stores
    }
    async with Restore(settings, manifest, deciders, say, accept_loss=accept_loss) as work:
        await work.roll_forward()
        await work.verify()
        say(
            f"verified {work.report.verified_events:,} events: hashes, balances, snapshots ({work.report.seconds['verified']:.2f} s)"
        )
        await asyncio.to_thread(migrate_views, settings)
        work.report.notes += await _clear_search(settings)
        lineages = work.begin_histories()
        await work.reissue()
        await asyncio.to_thread(work.make_ready, lambda conn: _tell_views(conn, lineages))
        work.report.notes += await after_restore(settings, deciders, f"restored backup {manifest.id}")
        return work.report


def _tell_views(conn: psycopg.Connection[tuple[Any, ...]], lineages: Sequence[Lineage]) -> None:
    """Views begin anew; they must not take in events that a restore undid, though the topics still have them."""
    for lineage in lineages:
        conn.execute("DELETE FROM views.histories WHERE service = %s", (lineage.service,))
        for shard, ordinal, history, first in lineage.rows():
            conn.execute(
                "INSERT INTO views.histories (service, shard, ordinal, history, first_position) VALUES (%s, %s, %s, %s, %s)",
                (lineage.service, shard, ordinal, history, first),
            )


async def _clear_search(settings: Settings) -> list[str]:
    """Search indices are made again from the views; the old ones may know what never happened."""
    from elasticsearch import ApiError, TransportError

    from projections.search.documents import INDICES
    from projections.search.indices import client_of

    patterns = [f"{index.alias(settings)}-v*" for index in INDICES]
    client = client_of(settings)
    try:
        found = await client.indices.get(
            index=",".join(patterns), allow_no_indices=True, filter_path="*.aliases"
        )
        for name in found.body:
            await client.options(ignore_status=404).indices.delete(index=name)
    except (ApiError, TransportError) as error:
        why = type(error).__name__
        return [f"search was not cleared ({why}): delete {', '.join(patterns)} before its projector starts"]
    finally:
        await client.close()
    return []


def _summary(done: RestoreReport, say: Say) -> None:
    shards = done.shards
    seconds = ", ".join(f"{what} {s:.2f} s" for what, s in done.seconds.items())
    say(
        f"restored: {done.verified_events:,} events, {sum(s.events + s.from_replies for s in shards):,} of them from after the "
        f"backup; {sum(s.answers + s.refusals + s.from_replies for s in shards):,} answers as they were given; "
        f"{sum(s.undecided for s in shards):,} commands wait for their writer ({seconds})"
    )
    for service, history in done.histories.items():
        say(f"{service} begins history {history}")
    for note in [*done.notes, *(f"{s.service}/{s.shard}: {n}" for s in shards for n in s.notes)]:
        say(f"[yellow]note:[/] {note}")
    for loss in done.losses:
        say(f"[bold red]lost:[/] {loss}")
    for shard in shards:
        for what in ("answers_uncertain", "answers_unknown", "unexplained", "contradicted"):
            found: list[str] = getattr(shard, what)
            if found:
                more = f" and {len(found) - 3} more" if len(found) > 3 else ""
                colour = "yellow" if what == "answers_uncertain" else "bold red"
                say(
                    f"[{colour}]{what.replace('_', ' ')}:[/] {shard.service}/{shard.shard}: {', '.join(found[:3])}{more}"
                )
    say(
        "everything that was acknowledged is back"
        if done.complete
        else "[bold red]not everything is back: see above[/]"
    )
