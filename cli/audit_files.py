"""Files that leave the system: exports, signed heads, public keys; and an operator's word after a restore."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from cli.audit_sources import HeadsOption, KeysOption, could_not, signed_heads

_Service = Annotated[list[str] | None, typer.Option(help="Only this service (repeat for more).")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(export)
    app.command()(heads)
    app.command()(keys)
    app.command()(supersede)


def export(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Folder for the files; made when absent.")],
    service: _Service = None,
    shard: Annotated[list[int] | None, typer.Option(help="Only this shard (repeat for more).")] = None,
    compress: Annotated[bool, typer.Option("--gzip", help="Compress the files.")] = False,
    heads: HeadsOption = "topic",
    keys: KeysOption = None,
) -> None:
    """Write each shard's history to `FOLDER/<service>-<shard>.ndjson`, with its signed heads.

    `nexafi audit verify --export FILE` checks a file without any server, and so does
    `docs/reference/verify_history.py` with nothing but Python. Files hold what the stores hold: payloads too.
    """
    import psycopg

    from cli.deciders import DECIDERS
    from events.export import open_for_writing, write_shard
    from events.verify import survey
    from nexafi.settings import Settings

    settings = Settings()
    book = signed_heads(settings, heads, keys)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with psycopg.connect(settings.database, autocommit=True) as conn:
            for name in service or list(DECIDERS):
                for each in survey(conn, name, 0):
                    head = each.head
                    if (shard is not None and head.shard not in shard) or head.next_position == 1:
                        continue
                    path = folder / f"{name}-{head.shard}.ndjson{'.gz' if compress else ''}"
                    signed = book.tokens.get((name, head.shard), []) if book is not None else []
                    with open_for_writing(path) as out:
                        count = write_shard(conn, name, head, out, signed)
                    print(f"{path}: {count} events, {len(signed)} signed heads")
    except psycopg.Error as error:
        raise could_not(f"the database: {error}") from error


def heads(keys: KeysOption = None) -> None:
    """Print the signed heads on `nexafi.heads`, one JSON line each: keep them where nobody can change them."""
    from events.signed_heads import lines_of
    from nexafi.settings import Settings

    book = signed_heads(Settings(), "topic", keys)
    for line in lines_of(book) if book is not None else ():
        print(line)
    for place, problem in (book.problems if book is not None else {}).items():
        raise could_not(f"{place[0]}/{place[1]}: {problem}")


def keys(
    new: Annotated[
        bool, typer.Option("--new", help="Make a private key for NEXAFI_HEAD_SIGNING_KEYS and print it.")
    ] = False,
) -> None:
    """Print the public keys of signed heads (a JWK set). Give them to auditors by a way that they trust."""
    from events.signed_heads import known_keys
    from nexafi.settings import Settings
    from nexafi.signing import new_private_keys

    if new:
        print(new_private_keys())
        return
    found = known_keys(Settings())
    if found is None:
        raise could_not("no head was ever signed here: the role `heads` makes the keys")
    print(json.dumps(found.jwks(), indent=2))


def supersede(
    service: Annotated[str, typer.Argument(help="Service whose store was restored.")],
    reason: Annotated[str, typer.Option(help="Why; it is signed and kept.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """After a restore: sign that the store's heads of now replace those that it no longer reaches.

    Until then the signer signs nothing for these shards, and `verify` finds them wrong. Look before you do.
    """
    import psycopg

    from events.signed_heads import signing_keys
    from events.supersede import discontinued
    from events.supersede import supersede as replace
    from nexafi.settings import Settings

    settings = Settings()
    book = signed_heads(settings, "topic", None)
    try:
        found = discontinued(settings, service, book) if book is not None else []
    except psycopg.Error as error:
        raise could_not(f"the database: {error}") from error
    if book is None or not found:
        print(f"{service}: every shard continues what was signed; nothing to supersede")
        return
    for row, problem in found:
        print(f"{service}/{row[0]}: {problem}")
    if not yes:
        typer.confirm(f"Sign that these {len(found)} heads hold from now on?", abort=True)
    keys = signing_keys(settings)
    for head in asyncio.run(replace(settings, keys, service, book, [row for row, _ in found], reason)):
        assert head.supersedes is not None
        print(f"{service}/{head.shard}: position {head.position} replaces {head.supersedes[0]}")
