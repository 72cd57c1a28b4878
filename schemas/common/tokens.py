"""Consistency tokens: what a caller has seen, so that a later read is never older.

A token is an opaque base64url text of ``{"<store>/<shard>": position}``. Tokens merge by maximum; the
header ``Consistency-Token`` takes several, separated by commas, so a client need not know the form.
A query that is given one waits (bounded) until the sources it reads have reached those positions.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Final

Positions = dict[str, int]

HEADER: Final = "Consistency-Token"
#: Bounds of what is read and written. Three services of 64 shards give 192 positions and some 6,000 characters: what
#: proxies take by default (8 KiB) holds that, and our own servers take 32 KiB of headers.
MAX_CHARS: Final = 12_288
MAX_ENTRIES: Final = 320
_SOURCE: Final = re.compile(r"[a-z][a-z0-9-]{0,31}/(0|[1-9][0-9]{0,3})")


class MalformedTokenError(ValueError):
    """The text is not a consistency token."""


class TokenTooLargeError(ValueError):
    """The merged positions do not fit into one token."""


def one(store: str, shard: int, position: int) -> str:
    """Token of a single position; the usual answer to a command."""
    return urlsafe_b64encode(f'{{"{store}/{shard}":{position}}}'.encode()).rstrip(b"=").decode()


def encode(positions: Mapping[str, int]) -> str:
    """Token of ``{"store/shard": position}``; equal positions give equal tokens."""
    if len(positions) > MAX_ENTRIES:
        raise TokenTooLargeError(f"{len(positions)} positions are more than {MAX_ENTRIES}")
    text = json.dumps(dict(sorted(positions.items())), separators=(",", ":"))
    token = urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    if len(token) > MAX_CHARS:
        raise TokenTooLargeError(f"a token of {len(token)} characters is longer than {MAX_CHARS}")
    return token


def decode(value: str) -> Positions:
    """Positions of a header's value: one token, or several separated by commas, merged by maximum."""
    if len(value) > MAX_CHARS:
        raise MalformedTokenError(f"a token has at most {MAX_CHARS} characters")
    merged: Positions = {}
    for part in value.split(","):
        token = part.strip()
        if token:
            merge_into(merged, _decode_one(token))
    if len(merged) > MAX_ENTRIES:
        raise MalformedTokenError(f"a token has at most {MAX_ENTRIES} positions")
    return merged


def merge_into(target: Positions, other: Mapping[str, int]) -> None:
    """Raise ``target`` to the maximum of both, in place."""
    for source, position in other.items():
        if position > target.get(source, -1):
            target[source] = position


def _decode_one(token: str) -> Positions:
    try:
        data = json.loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (Base64Error, ValueError, RecursionError):
        raise MalformedTokenError("not a consistency token") from None
    if not isinstance(data, dict):
        raise MalformedTokenError("not a consistency token")
    for source, position in data.items():
        if not _SOURCE.fullmatch(source) or type(position) is not int or not 0 <= position < 2**63:
            raise MalformedTokenError("not a consistency token")
    return data
