"""Golden samples: for every type ever released, bytes that must be readable for ever.

``schemas/golden/<type>.json`` holds the data of one command or event exactly as it is stored, and a line feed.
``schemas/golden/histories/<service>.ndjson`` is a short true history of a shard, one event a line;
``digests.json`` pins the bytes of all of them, and the digest of the state to which a history replays.
A sample is never edited: a new version of a type gets a new file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).resolve().parents[2] / "schemas" / "golden"


@dataclass(frozen=True)
class GoldenEvent:
    """One event of a golden history, as the store gives it back. ``data`` is the stored JSON."""

    type: str
    stream: str
    version: int
    time_us: int
    tenant: str
    actor: str
    saga_id: str
    data: bytes


def sample_path(type_: str) -> Path:
    """Where the sample of a type is."""
    return FOLDER / f"{type_}.json"


def sample(type_: str) -> Any:
    """The sample as a value, for documentation; ``None`` when there is none yet."""
    path = sample_path(type_)
    return json.loads(path.read_bytes()) if path.is_file() else None


def samples() -> dict[str, bytes]:
    """Type -> frozen bytes of every sample."""
    return {path.name.removesuffix(".json"): frozen(path) for path in sorted(FOLDER.glob("*.v*.json"))}


def frozen(path: Path) -> bytes:
    """Bytes of a golden file without the line feed that editors want at its end."""
    return path.read_bytes().removesuffix(b"\n")


def sha256(data: bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def history(service: str) -> Iterator[GoldenEvent]:
    """The golden history of a service, in order."""
    for line in (FOLDER / "histories" / f"{service}.ndjson").read_bytes().splitlines():
        # The data is carried as text, so that what is hashed is what was stored.
        each = json.loads(line)
        yield GoldenEvent(**(each | {"data": each["data"].encode()}))


def digests() -> dict[str, Any]:
    """``{"samples": {type: sha256}, "histories": {service: {"events", "bytes", "state_version", "state"}}}``."""
    document: dict[str, Any] = json.loads((FOLDER / "digests.json").read_bytes())
    return document
