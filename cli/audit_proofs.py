"""Proofs of one event: made from a store, checked without one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.audit_sources import WRONG, HeadsOption, KeysOption, could_not, public_keys, signed_heads
from nexafi.ids import is_uuid

if TYPE_CHECKING:
    import psycopg


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(prove)
    app.command("check-proof")(check_proof)


def prove(
    service: Annotated[str, typer.Argument(help="Service in whose history the event is.")],
    stream: Annotated[
        str | None, typer.Option(help="The event of this stream: a transaction, a hold, a payment ...")
    ] = None,
    version: Annotated[int, typer.Option(min=1, help="Which event of the stream.")] = 1,
    position: Annotated[str | None, typer.Option(help="The event at SHARD/POSITION.")] = None,
    entry: Annotated[
        str | None,
        typer.Option(help="The transaction of ACCOUNT/SEQUENCE, a line of an account's statement."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
    heads: HeadsOption = "topic",
    keys: KeysOption = None,
) -> None:
    """Prove that one event is part of history, up to a signed head where there is one.

    The proof shows this event and no other. `nexafi audit check-proof` checks it without any server.
    """
    import psycopg

    from events.errors import CorruptHistoryError
    from events.proofs import prove as make
    from nexafi.settings import Settings

    if sum(x is not None for x in (stream, position, entry)) != 1:
        raise typer.BadParameter("Name the event by one of --stream, --position and --entry.")
    settings = Settings()
    book = signed_heads(settings, heads, keys)
    try:
        with psycopg.connect(settings.database, autocommit=True) as conn:
            shard, at = _place(conn, service, stream, version, position, entry)
            proof = make(conn, service, shard, at, book)
    except LookupError as error:
        raise typer.BadParameter(str(error)) from error
    except CorruptHistoryError as error:
        print(f"WRONG {error}", file=sys.stderr)
        raise typer.Exit(WRONG) from error
    except psycopg.Error as error:
        raise could_not(f"the database: {error}") from error
    text = json.dumps(proof, indent=1) + "\n"
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")
        print(f"{out}: {service}/{shard} position {at}, {len(text)} bytes")


def _place(
    conn: psycopg.Connection[Any],
    service: str,
    stream: str | None,
    version: int,
    position: str | None,
    entry: str | None,
) -> tuple[int, int]:
    """Shard and position of the event that is meant."""
    from events.store.tables import schema_name

    if position is not None:
        shard, _, at = position.partition("/")
        if not (shard.isdecimal() and at.isdecimal()):
            raise LookupError(f"{position!r} is not SHARD/POSITION")
        return int(shard), int(at)
    if entry is not None:
        stream = _transaction_of(conn, entry)
    if stream is None or not is_uuid(stream):
        raise LookupError(f"{stream!r} is not the id of a stream")
    row = conn.execute(
        f'SELECT shard, position FROM "{schema_name(service)}".events '  # noqa: S608 -- a checked name
        "WHERE originator_id = %s::uuid AND originator_version = %s",
        (stream, version),
    ).fetchone()
    if row is None:
        raise LookupError(f"{service} has no event {version} of {stream}")
    return int(row[0]), int(row[1])


def _transaction_of(conn: psycopg.Connection[Any], entry: str) -> str:
    """The transaction behind a line of a statement."""
    account, _, sequence = entry.partition("/")
    if not (is_uuid(account) and sequence.isdecimal()):
        raise LookupError(f"{entry!r} is not ACCOUNT/SEQUENCE")
    row = conn.execute(
        "SELECT transaction_id::text FROM views.entries WHERE account_id = %s::uuid AND sequence = %s",
        (account, int(sequence)),
    ).fetchone()
    if row is None:
        raise LookupError(f"no entry {entry}")
    return str(row[0])


def check_proof(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A proof of `nexafi audit prove`.")
    ],
    keys: KeysOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was proven as JSON.")] = False,
) -> None:
    """Check a proof with nothing but the file and the signer's public keys. Exit status 1: it proves nothing."""
    from events.proofs import ProofError, check
    from nexafi.settings import Settings

    try:
        proven = check(json.loads(file.read_text(encoding="utf-8")), public_keys(Settings(), keys))
    except (ProofError, ValueError) as error:
        print(f"WRONG {file}: {error}")
        raise typer.Exit(WRONG) from error
    if as_json:
        shown = {
            "service": proven.service,
            "shard": proven.shard,
            "event_id": proven.event_id,
            "event": proven.event,
            "position": proven.head_position,
            "chain": proven.head_chain,
            "signed": proven.signed is not None,
        }
        print(json.dumps(shown))
        return
    event = proven.event
    print(
        f"ok    {event['type']} {event['stream']}, position {event['position']} of {proven.service}/{proven.shard}"
    )
    print(f"      {event.get('data', '')}")
    if proven.signed is not None:
        print(f"      part of the history that was signed at position {proven.head_position}")
    else:
        print(
            f"      leads to chain hash {proven.head_chain} at position {proven.head_position}; "
            "no signature was checked: compare it with a head that you trust"
        )
