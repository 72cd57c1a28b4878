"""Dead letters: records that can not be processed, kept with their bytes and the cause, to be sent again or discarded.

Of a bulk whose other items are good, the bad item alone is kept and sent, as a command of its own under its own
id: it is decided as it would have been, and can not be decided twice.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson
import psycopg
from aiokafka import ConsumerRecord
from pydantic_core import from_json, to_json

from events.errors import EngineError
from events.store.append import DeadLetter
from events.store.tables import schema_name
from nexafi.ids import is_uuid
from schemas.common.outcomes import Bulk

MAX_CAUSE_CHARS: Final = 2000
Headers = list[tuple[str, bytes | None]]


class NoSuchLetterError(EngineError, LookupError):
    """There is no such dead letter."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it is stored. ``retried_at`` and ``discarded_at`` are ``None`` while it waits."""

    service: str
    id: int
    topic: str
    partition: int
    offset: int
    item: int
    command_id: str | None
    headers: Headers
    key: bytes | None
    value: bytes | None
    error: str
    cause: str
    recorded_at: datetime
    retried_at: datetime | None
    discarded_at: datetime | None
    discarded_why: str | None

    @property
    def name(self) -> str:
        """``service/id``, which is how people name it."""
        return f"{self.service}/{self.id}"

    @property
    def record(self) -> str:
        """Where on Kafka it came from."""
        return f"{self.topic}[{self.partition}]@{self.offset}" + (f"#{self.item}" if self.item else "")

    @property
    def type(self) -> str:
        """The command's type, as far as it can be told."""
        return (dict(self.headers).get("ce_type") or b"").decode("utf-8", "replace")


class Wanted(NamedTuple):
    """Which letters are meant; ``None`` and ``False``: no matter, and only those that wait."""

    ids: Sequence[int] | None = None
    shard: int | None = None
    cause: str | None = None
    since: datetime | None = None
    everything: bool = False


# ---------------------------------------------------------------------- bytes


def encode_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Headers as JSON that gives back the very bytes: ``[name, text | null | {"base64": ...}]``."""
    return orjson.dumps([[name, _encoded(value)] for name, value in headers])


def _encoded(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def decode_headers(stored: bytes) -> Headers:
    """Inverse of :func:`encode_headers`."""
    return [
        (
            name,
            value.encode()
            if isinstance(value, str)
            else None
            if value is None
            else b64decode(value["base64"], validate=True),
        )
        for name, value in orjson.loads(stored)
    ]


def letter_of(
    record: ConsumerRecord[bytes, bytes],
    error: Exception,
    *,
    item: int = 0,
    command_id: str | None = None,
) -> DeadLetter:
    """The record's own bytes (of a bulk: the item's) and the cause, ready to be stored."""
    headers: Headers = list(record.headers)
    value: bytes | None = record.value
    if command_id is None:
        claimed = (dict(headers).get("ce_id") or b"").decode("utf-8", "replace")
        command_id = claimed if is_uuid(claimed) else None
    else:
        headers, value = alone(headers, value, item, command_id)
    # PostgreSQL's text has no NUL, and a cause may quote a name out of the record.
    cause = str(error)[:MAX_CAUSE_CHARS].replace("\x00", "\\0")
    return DeadLetter(
        record.topic,
        record.partition,
        record.offset,
        item,
        encode_headers(headers),
        record.key,
        value,
        type(error).__name__,
        cause,
        command_id,
    )


def alone(headers: Headers, value: bytes | None, item: int, command_id: str) -> tuple[Headers, bytes | None]:
    """One item of a bulk record as a command of its own; anything else as it is."""
    if (Bulk.TYPE.encode()) != dict(headers).get("ce_type"):
        return headers, value
    try:
        found = from_json(value or b"")["items"][item]
        if found["id"] != command_id:
            return headers, value
        changed = {"ce_id": found["id"], "ce_type": found["type"], "ce_requesthash": found["hash"]}
        data = to_json(found["data"])
    except (ValueError, KeyError, IndexError, TypeError):
        return headers, value  # the bulk itself is what can not be read
    kept = [(name, old) for name, old in headers if name not in changed]
    return [*((name, text.encode()) for name, text in changed.items()), *kept], data


# ---------------------------------------------------------------------- the store

_COLUMNS: Final = (
    "id, topic, partition, record_offset, item, command_id::text, headers, key, value, error, cause, "
    "recorded_at, retried_at, discarded_at, discarded_why"
)


def find(conn: psycopg.Connection[Any], service: str, wanted: Wanted) -> list[Letter]:
    """The letters that are meant, oldest first."""
    clauses, params = ["true"], dict[str, Any]()
    for name, clause, value in (
        ("ids", "id = ANY(%(ids)s)", list(wanted.ids) if wanted.ids is not None else None),
        ("shard", "partition = %(shard)s", wanted.shard),
        ("cause", "position(lower(%(cause)s) in lower(error || ': ' || cause)) > 0", wanted.cause),
        ("since", "recorded_at >= %(since)s", wanted.since),
    ):
        if value is not None:
            clauses.append(clause)
            params[name] = value
    if not wanted.everything:
        clauses.append("retried_at IS NULL AND discarded_at IS NULL")
    rows = conn.execute(
        f'SELECT {_COLUMNS} FROM "{schema_name(service)}".dead_letters WHERE {" AND ".join(clauses)} ORDER BY id',
        params,
    ).fetchall()
    return [_letter(service, row) for row in rows]


def _letter(service: str, row: tuple[Any, ...]) -> Letter:
    headers = decode_headers(bytes(row[6]))
    return Letter(
        service,
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        row[5],
        headers,
        bytes(row[7]) if row[7] is not None else None,
        bytes(row[8]) if row[8] is not None else None,
        *row[9:],
    )


def one(conn: psycopg.Connection[Any], service: str, identifier: int) -> Letter:
    """The letter with this id, in whatever state; :class:`NoSuchLetterError`."""
    found = find(conn, service, Wanted([identifier], everything=True))
    if not found:
        raise NoSuchLetterError(f"{service} has no dead letter {identifier}")
    return found[0]


def record_to_send(letter: Letter) -> tuple[Headers, bytes | None]:
    """Headers and value to send again: the original bytes, or of a bulk the item alone."""
    if letter.command_id is None:
        return letter.headers, letter.value
    return alone(letter.headers, letter.value, letter.item, letter.command_id)


def mark_retried(conn: psycopg.Connection[Any], letter: Letter) -> None:
    """It was sent again."""
    conn.execute(
        f'UPDATE "{schema_name(letter.service)}".dead_letters SET retried_at = now() WHERE id = %s',
        (letter.id,),
    )


def discard(conn: psycopg.Connection[Any], letter: Letter, why: str) -> bool:
    """Decide that it is not to be sent; its bytes stay. False when it was sent or discarded meanwhile."""
    return bool(
        conn.execute(
            f'UPDATE "{schema_name(letter.service)}".dead_letters SET discarded_at = now(), discarded_why = %s '
            "WHERE id = %s AND retried_at IS NULL AND discarded_at IS NULL",
            (why, letter.id),
        ).rowcount
    )
