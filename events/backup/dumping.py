"""Taking a backup while the platform works: one snapshot of all stores, copied out table by table.

All stores live in one database, so one ``REPEATABLE READ`` transaction sees them at one moment: heads, events,
results and claims of a batch are all in the backup or all not. Writers are not held up. A second connection
reads with the same snapshot (``pg_export_snapshot``) where there is a second processor.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import uuid4

import psycopg
import zstandard
from psycopg import sql

from events.backup.manifest import (
    FORMAT,
    MANIFEST,
    BackupError,
    HeadEntry,
    Manifest,
    StoreEntry,
    TableFile,
    key_check,
    write_manifest,
)
from events.backup.marker import refuse_unfinished
from events.migrations import SERVICES
from events.store.tables import schema_name
from nexafi.settings import Settings

Connection = psycopg.Connection[tuple[Any, ...]]
#: Tables of a store in the order in which they are restored. Views are not here: they are made from events.
TABLES: Final = (
    "meta",
    "shard_head",
    "events",
    "batches",
    "command_results",
    "claims",
    "dead_letters",
    "snapshots",
    "relay_marks",
)
#: Tables that grow with every command: copied first, and worth a line of progress.
_LONG: Final = frozenset({"events", "command_results"})
#: zstandard's quickest useful level: the disk and PostgreSQL are slower than it is.
_LEVEL: Final = 1
_BLOCK: Final = 1 << 18
_WORKERS: Final = 2


@dataclass(frozen=True)
class BackupDone:
    """What a backup came to."""

    manifest: Manifest
    folder: Path
    seconds: float
    size: int


def take_backup(
    settings: Settings,
    folder: Path,
    services: Sequence[str] = SERVICES,
    progress: Callable[[str], None] = lambda _text: None,
) -> BackupDone:
    """Back up the stores of ``services`` into ``folder``, which must be empty or absent."""
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BackupError(f"{folder} is not empty")
    folder.chmod(0o700)
    with psycopg.connect(settings.database, application_name="nexafi-backup") as conn:
        refuse_unfinished(conn)
        conn.rollback()
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        snapshot, made_at = _one(conn, "SELECT pg_export_snapshot(), clock_timestamp()")
        stores = [_describe(conn, service) for service in services]
        jobs = [(s.service, table) for s in stores for table in TABLES]
        jobs.sort(key=lambda job: job[1] not in _LONG)
        with ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1)) as pool:
            done = list(pool.map(lambda job: _dump(settings, snapshot, folder, job, progress), jobs))
        files: dict[str, list[TableFile]] = {s.service: [] for s in stores}
        for (service, _), file in zip(jobs, done, strict=True):
            files[service].append(file)
        order = {table: index for index, table in enumerate(TABLES)}
        manifest = Manifest(
            format=FORMAT,
            id=str(uuid4()),
            made_at=made_at.astimezone(UTC).isoformat(),
            product=_product(),
            postgres=conn.info.server_version,
            key_check=key_check(settings),
            stores=[
                s.model_copy(update={"tables": sorted(files[s.service], key=lambda f: order[f.table])})
                for s in stores
            ],
        )
    write_manifest(folder, manifest, settings)
    size = sum(f.size for s in manifest.stores for f in s.tables) + (folder / MANIFEST).stat().st_size
    return BackupDone(manifest, folder, time.perf_counter() - began, size)


def _one(conn: Connection, statement: str) -> tuple[Any, ...]:
    row = conn.execute(statement).fetchone()
    assert row is not None
    return row


def _describe(conn: Connection, service: str) -> StoreEntry:
    """Heads, marks and layout of a store, in the snapshot."""
    s = schema_name(service)
    try:
        heads = conn.execute(
            "SELECT h.shard, h.epoch, h.history::text, h.next_position, h.next_offset, h.last_time_us, "
            f"encode(h.chain_hash, 'hex'), coalesce(m.position, 0) FROM \"{s}\".shard_head h "
            f'LEFT JOIN "{s}".relay_marks m USING (shard) ORDER BY h.shard'
        ).fetchall()
        layout = _one(conn, f"SELECT value::int FROM \"{s}\".meta WHERE key = 'layout'")[0]
        months = conn.execute(
            f"SELECT DISTINCT date_trunc('month', recorded_at AT TIME ZONE 'UTC')::date::text "
            f'FROM "{s}".command_results ORDER BY 1'
        ).fetchall()
    except psycopg.errors.UndefinedTable:
        raise BackupError(f"there is no store of {service} in this database: nothing to back up") from None
    names = list(HeadEntry.model_fields)
    return StoreEntry(
        service=service,
        layout=layout,
        heads=[HeadEntry(**dict(zip(names, row, strict=True))) for row in heads],
        months=[m for (m,) in months],
        tables=[],
    )


class _Hashed:
    """A file that is hashed as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _dump(
    settings: Settings,
    snapshot: str,
    folder: Path,
    job: tuple[str, str],
    progress: Callable[[str], None],
) -> TableFile:
    """Copy one table out, at the moment of the snapshot."""
    service, table = job
    s, path = schema_name(service), f"{service}/{table}.copy.zst"
    target = folder / path
    target.parent.mkdir(exist_ok=True)
    with (
        psycopg.connect(settings.database, application_name="nexafi-backup") as conn,
        target.open("wb") as file,
    ):
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        conn.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
        columns = [
            c
            for (c,) in conn.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s "
                "ORDER BY ordinal_position",
                (s, table),
            ).fetchall()
        ]
        hashed = _Hashed(file)
        compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        statement = f'COPY (SELECT {", ".join(columns)} FROM "{s}".{table}) TO STDOUT (FORMAT BINARY)'
        with (
            compressor.stream_writer(hashed, closefd=False) as out,  # type: ignore[arg-type]
            conn.cursor() as cursor,
        ):
            with cursor.copy(statement) as copy:
                block, length = [], 0
                for data in copy:
                    block.append(data)
                    length += len(data)
                    if length >= _BLOCK:
                        out.write(b"".join(block))
                        block, length = [], 0
                out.write(b"".join(block))
            rows = cursor.rowcount
        file.flush()
        os.fsync(file.fileno())
    if rows and table in _LONG:
        progress(f"{service}/{table}: {rows:,} rows, {hashed.size / 1e6:,.1f} MB")
    return TableFile(
        table=table,
        columns=columns,
        path=path,
        rows=rows,
        size=hashed.size,
        sha256=hashed.digest.hexdigest(),
    )


def _product() -> str:
    try:
        return version("nexafi")
    except PackageNotFoundError:
        return "unknown"
