"""``nexafi dead-letters``: records that could not be processed, with their bytes and the cause."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import psycopg

    from events.dead_letters import Letter, Wanted

app = typer.Typer(help="Look at records that were set aside, and send them again.", no_args_is_help=True)
_Service = Annotated[list[str] | None, typer.Option(help="Only of this service (repeat for more).")]
_Shard = Annotated[int | None, typer.Option(help="Only of this shard.")]
_Cause = Annotated[str | None, typer.Option(help="Only with this text in the error or its cause.")]
_Since = Annotated[datetime | None, typer.Option(help="Only set aside at this time (UTC) or later.")]
_Names = Annotated[list[str] | None, typer.Argument(help="Letters, each as SERVICE/ID.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("list")
def list_(
    service: _Service = None,
    shard: _Shard = None,
    cause: _Cause = None,
    since: _Since = None,
    all_: Annotated[bool, typer.Option("--all", help="Those sent again or discarded, too.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON line for each, without its bytes.")
    ] = False,
) -> None:
    """List dead letters that wait for somebody to decide."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, expand=False)
    for name in ("letter", "record", "set aside"):
        table.add_column(name, no_wrap=True)
    for name in ("cause", "state"):
        table.add_column(name, overflow="fold")
    with _database() as conn:
        for letter in _found(conn, service, None, _wanted(shard, cause, since, everything=all_)):
            if as_json:
                print(json.dumps(_shown(letter)))
                continue
            table.add_row(
                letter.name,
                letter.record,
                f"{letter.recorded_at:%Y-%m-%d %H:%M:%S}",
                f"{letter.error}: {letter.cause[:160]}",
                _state(letter),
            )
    if not as_json:
        console.print(
            table if table.row_count else "There are none.", width=None if console.is_terminal else 240
        )


@app.command()
def show(letter: Annotated[str, typer.Argument(help="SERVICE/ID.")]) -> None:
    """Show one with its headers and bytes, which may hold personal data."""
    with _database() as conn:
        (found,) = _found(conn, None, [letter], _wanted(everything=True))
    text = {name: (value or b"").decode("utf-8", "backslashreplace") for name, value in found.headers}
    shown = _shown(found) | {
        "headers": text,
        "key": (found.key or b"").decode("utf-8", "backslashreplace"),
        "value": (found.value or b"").decode("utf-8", "backslashreplace"),
    }
    print(json.dumps(shown, indent=2))


@app.command()
def retry(
    letters: _Names = None,
    service: _Service = None,
    shard: _Shard = None,
    cause: _Cause = None,
    since: _Since = None,
    yes: _Yes = False,
) -> None:
    """Send letters again as they were, under their own command ids, to be decided afresh.

    A command that was decided meanwhile is answered from its result, so nothing can happen twice. An item of a
    bulk is sent alone.
    """
    with _database() as conn:
        found = _chosen(conn, letters, service, _wanted(shard, cause, since), yes, "Send again")
        asyncio.run(_send_again(conn, found))


@app.command()
def discard(
    why: Annotated[str, typer.Option(help="Why it is not to be sent; kept with it.")],
    letters: _Names = None,
    service: _Service = None,
    shard: _Shard = None,
    cause: _Cause = None,
    since: _Since = None,
    yes: _Yes = False,
) -> None:
    """Decide that letters are not to be sent. They stay stored, and `list --all` shows them."""
    from events.dead_letters import discard as put_away

    with _database() as conn:
        for each in _chosen(conn, letters, service, _wanted(shard, cause, since), yes, "Discard"):
            print(f"{each.name}: {'discarded' if put_away(conn, each, why) else 'was dealt with meanwhile'}")


# ---------------------------------------------------------------------- finding


@contextmanager
def _database() -> Iterator[psycopg.Connection[Any]]:
    import psycopg

    from cli.audit_sources import could_not
    from nexafi.settings import Settings

    try:
        with psycopg.connect(Settings().database, autocommit=True) as conn:
            yield conn
    except psycopg.OperationalError as error:
        raise could_not(f"the database: {error}") from error


def _wanted(
    shard: int | None = None,
    cause: str | None = None,
    since: datetime | None = None,
    *,
    everything: bool = False,
) -> Wanted:
    from events.dead_letters import Wanted

    return Wanted(None, shard, cause, since.replace(tzinfo=UTC) if since is not None else None, everything)


def _found(
    conn: psycopg.Connection[Any], services: Sequence[str] | None, names: Sequence[str] | None, wanted: Wanted
) -> list[Letter]:
    """Letters by name, in whatever state, or by filter."""
    from events.dead_letters import NoSuchLetterError, find, one
    from events.migrations import SERVICES

    if names:
        pairs = [name.rpartition("/") for name in names]
        if wrong := [n for n, (s, _, i) in zip(names, pairs, strict=True) if not s or not i.isdecimal()]:
            raise typer.BadParameter(f"{wrong[0]!r} is not SERVICE/ID.")
        try:
            return [one(conn, _known(conn, s), int(i)) for s, _, i in pairs]
        except NoSuchLetterError as error:
            raise typer.BadParameter(str(error)) from error
    chosen = services if services is not None else [s for s in SERVICES if _is_store(conn, s)]
    return [letter for s in chosen for letter in find(conn, _known(conn, s), wanted)]


def _chosen(
    conn: psycopg.Connection[Any],
    names: Sequence[str] | None,
    services: Sequence[str] | None,
    wanted: Wanted,
    yes: bool,
    what: str,
) -> list[Letter]:
    """The letters of a command that changes something; asks before it takes those of a filter."""
    if names:
        return _found(conn, None, names, wanted)
    if not services and wanted.shard is None and wanted.cause is None and wanted.since is None:
        raise typer.BadParameter("Name letters, or say which by --service, --shard, --cause or --since.")
    found = _found(conn, services, None, wanted)
    if found and not yes:
        typer.confirm(f"{what} {len(found)} letters?", abort=True)
    return found


def _known(conn: psycopg.Connection[Any], service: str) -> str:
    if not _is_store(conn, service):
        raise typer.BadParameter(f"There is no store of a service {service!r}.")
    return service


def _is_store(conn: psycopg.Connection[Any], service: str) -> bool:
    from events.store.tables import schema_name

    try:
        name = f'"{schema_name(service)}".dead_letters'
    except ValueError:
        return False
    row = conn.execute("SELECT to_regclass(%s)", (name,)).fetchone()
    return row is not None and row[0] is not None


# ---------------------------------------------------------------------- showing and sending


def _state(letter: Letter) -> str:
    if letter.discarded_at is not None:
        return f"discarded {letter.discarded_at:%Y-%m-%d %H:%M:%S}: {letter.discarded_why}"
    return f"sent again {letter.retried_at:%Y-%m-%d %H:%M:%S}" if letter.retried_at is not None else ""


def _shown(letter: Letter) -> dict[str, Any]:
    return {
        "letter": letter.name,
        "record": letter.record,
        "item": letter.item,
        "command_id": letter.command_id,
        "type": letter.type,
        "error": letter.error,
        "cause": letter.cause,
        "recorded_at": letter.recorded_at.isoformat(),
        "state": _state(letter) or "waits",
    }


async def _send_again(conn: psycopg.Connection[Any], letters: Sequence[Letter]) -> None:
    from events.dead_letters import mark_retried, record_to_send
    from events.producer import new_producer
    from nexafi.settings import Settings

    producer = new_producer(Settings(), "dead-letters")
    await producer.start()
    try:
        for letter in letters:
            headers, value = record_to_send(letter)
            sent: Any = await producer.send_and_wait(
                letter.topic,
                value,
                key=letter.key,
                partition=letter.partition,
                headers=headers,
            )
            mark_retried(conn, letter)
            print(f"{letter.name}: sent again as {letter.topic}[{letter.partition}]@{sent.offset}")
    finally:
        await producer.stop()
