"""Where an auditor's signed heads and public keys come from, and what is said when they can not be had."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from events.signed_heads import HeadBook, Keys
    from nexafi.settings import Settings

WRONG: Final = 1
#: Neither sound nor wrong: something that is needed was not there.
COULD_NOT_CHECK: Final = 3

HeadsOption = Annotated[
    str,
    typer.Option(help="Signed heads to compare with: `topic`, `none`, or a file of `nexafi audit heads`."),
]
KeysOption = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="The signer's public keys (JWK set); default: this installation's."
    ),
]


def could_not(why: str) -> typer.Exit:
    """Say what was missing; the exit to raise."""
    print(f"could not check: {why}".strip(), file=sys.stderr)
    return typer.Exit(COULD_NOT_CHECK)


def public_keys(settings: Settings, path: Path | None) -> Keys | None:
    """The keys in the file, else those of this installation, if it has any."""
    from events.signed_heads import PublicKeys, known_keys

    if path is None:
        return known_keys(settings)
    try:
        return PublicKeys(path.read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise could_not(f"{path} has no keys: {error}") from error


def signed_heads(settings: Settings, where: str, keys_path: Path | None) -> HeadBook | None:
    """The signed heads from ``where``; ``None`` for ``none``, or when no head was ever signed here."""
    from events.head_signer import HeadsUnreadableError, read_topic
    from events.signed_heads import book_of, book_of_lines

    if where == "none":
        return None
    keys = public_keys(settings, keys_path)
    if where != "topic":
        try:
            lines = Path(where).read_text(encoding="utf-8").splitlines()
            if keys is None:
                raise could_not("the signed heads need the signer's public keys (--keys)")
            return book_of_lines(lines, keys)
        except (OSError, ValueError) as error:
            raise could_not(f"signed heads in {where}: {error}") from error
    try:
        records = asyncio.run(read_topic(settings))
    except HeadsUnreadableError as error:
        raise could_not(f"{error} (--heads none goes without them)") from error
    if records and keys is None:
        raise could_not("there are signed heads, and no public keys to check them with (--keys)")
    return book_of(records, keys) if keys is not None else None
