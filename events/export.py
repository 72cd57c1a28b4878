"""A shard's history as a file that anybody can check: JSON lines, one for each batch and event.

``docs/reference/proof-format.md`` describes the format; ``docs/reference/verify_history.py`` reads it with
nothing but Python's standard library. What is stored is exported as it is, right or wrong: judging is the
reader's work (:func:`verify_file`).
"""

from __future__ import annotations

import gzip
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Final, cast
from uuid import UUID

import orjson
import psycopg

from events.chain import GENESIS, encode_row
from events.checking import Base, RowParts, ShardCheck, parts_of, stream_id
from events.decider import Decider, InvariantViolationError
from events.errors import CorruptHistoryError
from events.signed_heads import HeadBook, Keys
from events.store.heads import Head
from events.store.reading import BatchRow
from events.store.tables import schema_name
from events.verify import (
    CHUNK_EVENTS,
    MAX_BATCH_EVENTS,
    ShardReport,
    batches_between,
    copied_rows,
    in_parts,
)
from nexafi.memory import collecting_seldom

FORMAT: Final = "nexafi-history/1"
#: Longest line that is read; a command's record is at most 4 MiB, and JSON text can at most sextuple it.
MAX_LINE_BYTES: Final = 32 * 1024 * 1024
_GZIP: Final = b"\x1f\x8b"


class ExportError(CorruptHistoryError):
    """The file is not a whole and unchanged export."""


# ---------------------------------------------------------------------- writing


def write_shard(
    conn: psycopg.Connection[Any], service: str, head: Head, out: IO[bytes], signed: Sequence[str] = ()
) -> int:
    """Export a shard up to ``head``; the number of events. ``signed`` are heads (JWS) that go with it."""
    events = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal events
        for record in records_of(service, head, stored(conn, service, head), signed):
            events += "stream" in record
            yield record

    write_records(out, counted())
    return events


def write_records(out: IO[bytes], records: Iterable[dict[str, Any]]) -> None:
    """Write records one a line, and the end record that closes them."""
    digest, count = sha256(), 0
    for record in records:
        line = orjson.dumps(record) + b"\n"
        digest.update(line)
        out.write(line)
        count += 1
    out.write(_end_line(count, digest.hexdigest()))


def _end_line(lines: int, digest: str) -> bytes:
    return orjson.dumps({"end": {"lines": lines, "sha256": digest}}) + b"\n"


def records_of(
    service: str, head: Head, history: Iterable[BatchRow | bytes], signed: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """The records of an export: ``history`` is each batch followed by its rows."""
    yield {
        "format": FORMAT,
        "service": service,
        "shard": head.shard,
        "history": head.history,
        "position": head.next_position - 1,
        "chain": bytes(head.chain_hash).hex(),
    }
    for each in history:
        yield _event_fields(parts_of(each)) if isinstance(each, bytes) else {"batch": _batch_fields(each)}
    for token in signed:
        yield {"head": token}


def stored(conn: psycopg.Connection[Any], service: str, head: Head) -> Iterator[BatchRow | bytes]:
    """A shard's batches and rows up to ``head``, as they are; rows of no batch come last, so that they show."""
    schema, last, position = schema_name(service), head.next_position - 1, 0
    for part in in_parts(batches_between(conn, schema, head.shard, 0, last)):
        rows = copied_rows(conn, schema, head.shard, position + 1, part[-1].last_position)
        row = next(rows, None)
        for batch in part:
            yield batch
            while row is not None and parts_of(row).position <= batch.last_position:
                yield row
                row = next(rows, None)
        position = max(position, part[-1].last_position)
    for first in range(position + 1, last + 1, CHUNK_EVENTS):
        yield from copied_rows(conn, schema, head.shard, first, min(last, first + CHUNK_EVENTS - 1))


def _batch_fields(batch: BatchRow) -> dict[str, Any]:
    return {
        "first": batch.first_position,
        "last": batch.last_position,
        "time_us": batch.time_us,
        "root": bytes(batch.merkle_root).hex(),
        "chain": bytes(batch.chain_hash).hex(),
    }


def _event_fields(parts: RowParts) -> dict[str, Any]:
    return {
        "position": parts.position,
        "stream": stream_id(parts.originator),
        "version": parts.version,
        "type": parts.topic.decode(),
        **_as_text("metadata", parts.metadata),
        **_as_text("data", parts.state),
    }


def _as_text(name: str, data: bytes) -> dict[str, str]:
    """Stored JSON stays readable; bytes that are no text are kept in base64."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(data).decode()}


def event_row(shard: int, fields: dict[str, Any]) -> bytes:
    """The stored row of an exported event: what its leaf is the hash of."""
    return encode_row(
        shard,
        int(fields["position"]),
        UUID(fields["stream"]).bytes,
        int(fields["version"]),
        str(fields["type"]).encode(),
        _as_bytes("metadata", fields),
        _as_bytes("data", fields),
    )


def event_fields(row: bytes) -> dict[str, Any]:
    """Inverse of :func:`event_row`."""
    return _event_fields(parts_of(row))


def _as_bytes(name: str, fields: dict[str, Any]) -> bytes:
    text = fields.get(name)
    if text is not None:
        return str(text).encode()
    return b64decode(fields[f"{name}_base64"], validate=True)


@contextmanager
def open_for_writing(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when it is whole; compressed when the name ends in ``.gz``."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        if path.suffix == ".gz":
            with temporary.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as out:
                yield cast("IO[bytes]", out)
        else:
            with temporary.open("wb") as plain:
                yield plain
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# ---------------------------------------------------------------------- reading


def _open_for_reading(path: Path) -> IO[bytes]:
    file = path.open("rb")
    magic = file.read(2)
    file.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if magic == _GZIP else file


def _records(out: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Every record but the end record, which must be there, last, and right to the byte."""
    digest, count, end = sha256(), 0, False
    while line := out.readline(MAX_LINE_BYTES):
        if end:
            raise ExportError("there is something after the end record")
        if not line.endswith(b"\n"):
            raise ExportError(f"line {count + 1} is cut off")
        record = orjson.loads(line)
        if "end" in record:
            if line != _end_line(count, digest.hexdigest()):
                raise ExportError(
                    "the file was changed: its end record has another number of lines or digest"
                )
            end = True
            continue
        digest.update(line)
        count += 1
        yield record
    if not end:
        raise ExportError("the file is cut off: it has no end record")


class _Reader:
    """One pass over an export."""

    def __init__(self, decider: Decider[Any] | None, keys: Keys | None, trusted: HeadBook | None) -> None:
        self.decider = decider
        self.keys = keys
        self.trusted = trusted
        self.book = HeadBook()
        self.report = ShardReport("", -1, replayed=decider is not None)
        self.check: ShardCheck[Any] | None = None
        self.heads: list[str] = []
        #: Chain hashes at batch ends, for the signed heads that come at the end of the file.
        self.ends: dict[int, str] = {0: GENESIS.hex()}

    def read(self, records: Iterator[dict[str, Any]]) -> None:
        head = next(records, None)
        if head is None or head.get("format") != FORMAT:
            raise ExportError(f"not an export: its first line does not say {FORMAT}")
        report, shard = self.report, int(head["shard"])
        report.service, report.shard = str(head["service"]), shard
        if self.decider is not None and self.decider.service != report.service:
            raise ExportError(f"an export of {report.service} was given as one of {self.decider.service}")
        base = Base(0, GENESIS, self.decider.initial(shard) if self.decider is not None else None)
        check = self.check = ShardCheck(self.decider, shard, base)
        rows: list[bytes] = []
        batch: BatchRow | None = None
        for record in records:
            if "position" in record and batch is not None and not self.heads:
                rows.append(event_row(shard, record))
                if len(rows) > MAX_BATCH_EVENTS or int(record["position"]) > batch.last_position:
                    raise ExportError(f"position {record['position']} belongs to no batch")
            elif "batch" in record and not self.heads:
                self._take(batch, rows)
                batch, rows = _batch_row(shard, record["batch"]), []
            elif "head" in record:
                self.heads.append(str(record["head"]))
            else:
                raise ExportError(f"there is a record that does not belong where it is: {sorted(record)}")
        self._take(batch, rows)
        report.digest = check.finish(int(head["position"]), bytes.fromhex(head["chain"]))
        self._compare_heads(str(head["history"]))

    def _take(self, batch: BatchRow | None, rows: list[bytes]) -> None:
        if batch is None:
            return
        assert self.check is not None
        if not rows:
            raise ExportError(f"the batch of positions {batch.first_position}.. has no events")
        self.check.batch(batch, rows)
        self.ends[batch.last_position] = self.check.chain.hex()

    def _compare_heads(self, history: str) -> None:
        assert self.check is not None
        place = (self.report.service, self.report.shard)
        books = [self.trusted] if self.trusted is not None else []
        if self.keys is not None:
            for token in self.heads:
                self.book.add(place, token, self.keys)
            books.append(self.book)
        for book in books:
            pins = book.pins().get(place)
            if pins is None:
                continue
            if pins.problem is not None:
                raise ExportError(pins.problem)
            if pins.history != history:
                raise ExportError(f"history {history} is not {pins.history}, which was signed")
            for position, chain in pins.chains.items():
                if self.ends.get(position) != chain.hex():
                    raise ExportError(
                        f"a head was signed at position {position} that this history (up to "
                        f"{self.check.position}) does not lead to: it was cut or written anew"
                    )
                self.report.signed_position = max(self.report.signed_position, position)


def _batch_row(shard: int, fields: dict[str, Any]) -> BatchRow:
    return BatchRow(
        shard,
        int(fields["first"]),
        int(fields["last"]),
        int(fields["time_us"]),
        0,
        0,
        bytes.fromhex(fields["root"]),
        bytes.fromhex(fields["chain"]),
    )


def exported_service(path: Path) -> str:
    """Which service an export is of; ``""`` when its first line does not say."""
    try:
        with _open_for_reading(path) as out:
            return str(orjson.loads(out.readline(MAX_LINE_BYTES)).get("service", ""))
    except (OSError, EOFError, ValueError, AttributeError):
        return ""


def verify_file(
    path: Path, decider: Decider[Any] | None, *, keys: Keys | None = None, trusted: HeadBook | None = None
) -> ShardReport:
    """Check an export: whole, unchanged, hashed and chained right, balanced, and led to by the signed heads.

    With a ``decider`` history is replayed as well. Signed heads in the file count when ``keys`` are given, those
    of ``trusted`` always. Needs no server and no settings.
    """
    reader, begun = _Reader(decider, keys, trusted), time.perf_counter()
    try:
        with _open_for_reading(path) as out, collecting_seldom():
            reader.read(_records(out))
    except InvariantViolationError as error:
        reader.report.problem = f"an invariant is broken: {error}"
    except CorruptHistoryError as error:
        reader.report.problem = str(error)
    except Exception as error:  # noqa: BLE001 -- whatever a damaged file makes fail is a finding, not a crash
        reader.report.problem = f"{type(error).__name__}: {error}"
    report, check = reader.report, reader.check
    if check is not None:
        report.events, report.batches, report.position = check.events, check.batches, check.position
        report.chain_hash = check.chain.hex()
    report.seconds = time.perf_counter() - begun
    return report
