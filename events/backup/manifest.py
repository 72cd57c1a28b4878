"""What a backup says about itself, and whether that is true.

A backup is a folder: ``manifest.json``, its seal ``manifest.seal``, and one file for each table of each store
(PostgreSQL's binary COPY form under zstandard). The manifest is written last, so a folder without one is not a
backup. The seal is an HMAC of the manifest under a key derived from ``NEXAFI_HMAC_KEY``: whoever can write to
the folder, and has not that key, can not make a backup that is accepted. The key itself is never in a backup.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from nexafi.settings import Settings

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SEAL: Final = "manifest.seal"
_BLOCK: Final = 1 << 20


class BackupError(RuntimeError):
    """A backup can not be made, or is not one that may be restored. The message says why, for people."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TableFile(_Part):
    """One table: where it is in the folder, what is in it. ``size`` is that of the file, in bytes."""

    table: str
    columns: list[str]
    path: str
    rows: int
    size: int
    sha256: str


class HeadEntry(_Part):
    """A shard as the backup has it. ``published`` is the relay's mark, ``chain_hash`` hexadecimal."""

    shard: int
    epoch: int
    history: str
    next_position: int
    next_offset: int
    last_time_us: int
    chain_hash: str
    published: int


class StoreEntry(_Part):
    """One service's store. ``months`` are the partitions of its results, ``2026-11-01`` each."""

    service: str
    layout: int
    heads: list[HeadEntry]
    months: list[str]
    tables: list[TableFile]

    @property
    def events(self) -> int:
        """Stored events."""
        return sum(h.next_position - 1 for h in self.heads)


class Manifest(_Part):
    """A whole backup. ``made_at`` is the database's time of the snapshot; ``key_check`` names the key, not more."""

    format: Literal[1]
    id: str
    made_at: str
    product: str
    postgres: int
    key_check: str
    stores: list[StoreEntry]

    @property
    def events(self) -> int:
        """Stored events of all stores."""
        return sum(s.events for s in self.stores)


def _key(settings: Settings, purpose: bytes) -> bytes:
    return hmac.digest(settings.hmac_key.get_secret_value().encode(), b"nexafi/backup/" + purpose, "sha256")


def key_check(settings: Settings) -> str:
    """Says which key an installation has, to somebody who has it as well."""
    return _key(settings, b"check")[:8].hex()


def write_manifest(folder: Path, manifest: Manifest, settings: Settings) -> None:
    """Seal and write; the manifest itself comes last."""
    body = manifest.model_dump_json(indent=1).encode()
    (folder / SEAL).write_text(hmac.new(_key(settings, b"seal"), body, "sha256").hexdigest() + "\n")
    partial = folder / f"{MANIFEST}.partial"
    partial.write_bytes(body)
    partial.replace(folder / MANIFEST)


def read_manifest(folder: Path, settings: Settings) -> Manifest:
    """The manifest of a backup that is this installation's and was not changed; else :class:`BackupError`."""
    try:
        body = (folder / MANIFEST).read_bytes()
        seal = (folder / SEAL).read_text().strip()
    except FileNotFoundError as error:
        raise BackupError(
            f"{folder} is not a finished backup: {Path(error.filename).name} is missing"
        ) from None
    try:
        manifest = Manifest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise BackupError(f"the manifest can not be read: {first['loc']}: {first['msg']}") from None
    if not hmac.compare_digest(manifest.key_check, key_check(settings)):
        raise BackupError(
            "the backup was made with another NEXAFI_HMAC_KEY: idempotency keys, claims and operation ids would no "
            "longer be recognised. Restore the installation's secrets first."
        )
    if not hmac.compare_digest(seal, hmac.new(_key(settings, b"seal"), body, "sha256").hexdigest()):
        raise BackupError("the manifest is not the one that was sealed: it was changed after the backup")
    return manifest


def check_files(folder: Path, manifest: Manifest) -> int:
    """Compare every file with its digest; bytes read. :class:`BackupError` names all files that differ."""
    wrong, read = [], 0
    for store in manifest.stores:
        for file in store.tables:
            path = folder / file.path
            if not path.is_file():
                wrong.append(f"{file.path} is missing")
                continue
            digest, size = _digest(path)
            read += size
            if size != file.size:
                wrong.append(f"{file.path} has {size} bytes, not {file.size}")
            elif digest != file.sha256:
                wrong.append(f"{file.path} does not have its SHA-256")
    if wrong:
        raise BackupError("the backup is damaged: " + "; ".join(wrong))
    return read


def _digest(path: Path) -> tuple[str, int]:
    digest, size = sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size
