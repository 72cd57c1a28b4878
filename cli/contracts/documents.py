"""Every generated document: what it holds now, what is committed, and whether the difference may be made."""

from __future__ import annotations

import importlib
import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cli.contracts import asyncapi, reference
from cli.contracts.compatibility import breaking
from cli.contracts.golden import sample
from cli.contracts.jsonschema import Kind, models, schema_of

ROOT: Final = Path(__file__).resolve().parents[2]
#: Everything below these is generated; a file there that is not generated is removed.
GENERATED: Final = ("schemas/json/commands", "schemas/json/events", "schemas/json/replies")
BASELINE: Final = "schemas/json/baseline.json"


@dataclass(frozen=True)
class Difference:
    """A generated file that is not as committed. ``why`` is ``missing``, ``differs`` or ``stale``."""

    path: str
    why: str


def generate() -> dict[str, bytes]:
    """Path within the project -> contents of every generated file."""
    files: dict[str, bytes] = {}
    for kind, each in models().items():
        for type_, model in each.items():
            files[f"schemas/json/{kind}/{type_}.json"] = _json(schema_of(kind, type_, model, sample(type_)))
    files["schemas/json/asyncapi.json"] = _json(asyncapi.document(version()))
    files["schemas/json/openapi.json"] = _json(openapi())
    files |= {path: text.encode() for path, text in reference.pages().items()}
    return files


def version() -> str:
    """The release that the documents describe."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def openapi() -> dict[str, Any]:
    """OpenAPI 3.1 of the gateway, as the gateway itself serves it."""
    make: Callable[[], dict[str, Any]] = importlib.import_module("gateway.app").openapi_document
    return make()


def differences(files: dict[str, bytes]) -> Iterator[Difference]:
    """Where the committed files are not what the code gives."""
    for path, contents in files.items():
        committed = ROOT / path
        if not committed.is_file():
            yield Difference(path, "missing")
        elif committed.read_bytes() != contents:
            yield Difference(path, "differs")
    for folder in GENERATED:
        for committed in sorted((ROOT / folder).glob("*.json")):
            path = committed.relative_to(ROOT).as_posix()
            if path not in files:
                yield Difference(path, "stale")


def write(files: dict[str, bytes]) -> list[str]:
    """Bring the committed files up to date; paths that changed."""
    changed = list(differences(files))
    for each in changed:
        target = ROOT / each.path
        if each.why == "stale":
            target.unlink()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(files[each.path])
    return [each.path for each in changed]


def baseline() -> dict[str, dict[str, Any]]:
    """``{kind: {type: schema}}`` of the last release; empty before the first."""
    path = ROOT / BASELINE
    released: dict[str, dict[str, Any]] = json.loads(path.read_bytes())["schemas"] if path.is_file() else {}
    return released


def broken_since(released: dict[str, dict[str, Any]]) -> list[str]:
    """``type: what breaks`` for every released type that is gone or changed in a way a version may not."""
    now = models()
    found: list[str] = []
    kinds: tuple[Kind, ...] = ("commands", "events", "replies")
    for kind in kinds:
        for type_, old in released.get(kind, {}).items():
            model = now[kind].get(type_)
            if model is not None:
                found += [f"{type_}: {each}" for each in breaking(kind, old, schema_of(kind, type_, model))]
            elif not (kind == "events" and _upcast(type_)):
                found.append(f"{type_}: was removed; what was released stays readable for ever")
    return found


def release() -> bytes:
    """Contents of a new baseline: the schemas as they are now."""
    schemas = {kind: {t: schema_of(kind, t, m) for t, m in each.items()} for kind, each in models().items()}
    return _json({"version": version(), "schemas": schemas})


def _upcast(type_: str) -> bool:
    from events.upcasting import UPCASTERS

    return type_ in UPCASTERS


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
