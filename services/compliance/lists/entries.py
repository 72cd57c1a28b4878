"""What every list layout is read into: entries with their names, and a version over the content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import orjson

EntryType = Literal["individual", "entity", "vessel", "aircraft"]
NameKind = Literal["primary", "aka", "fka", "nka"]
#: OFAC calls an alias weak when it is broad or generic ("the Doctor"); it confirms a hit, it seldom makes one.
Strength = Literal["strong", "weak"]


class ListError(ValueError):
    """A list can not be used. The text names the file and, where there is one, the line."""

    def __init__(self, file: str, line: int | None, why: str) -> None:
        super().__init__(f"{file}:{line}: {why}" if line else f"{file}: {why}")
        self.file = file
        self.line = line
        self.why = why


@dataclass(frozen=True, slots=True)
class ListName:
    """One name of an entry as the list prints it. Individuals are written ``SURNAME(S), Given Names``."""

    text: str
    kind: NameKind = "primary"
    strength: Strength = "strong"


@dataclass(frozen=True, slots=True)
class Document:
    """A passport or another identifying document; ``country`` is ISO 3166-1 alpha-2 or empty."""

    kind: str
    number: str
    country: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A listed person, organisation, vessel or aircraft.

    ``countries`` are ISO 3166-1 alpha-2 codes, sorted. ``births`` are EDTF level 1 (ISO 8601-2):
    ``1974-11-16``, ``1974-11``, ``1974``, ``1960~`` for "circa", ``1957/1960`` for a range.
    """

    id: str
    name: str
    type: EntryType
    programs: tuple[str, ...] = ()
    names: tuple[ListName, ...] = ()
    countries: tuple[str, ...] = ()
    births: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()

    @property
    def program(self) -> str:
        """All programs as one text, e.g. ``"SDGT, IFSR"``."""
        return ", ".join(self.programs)


@dataclass(frozen=True, slots=True)
class SanctionsList:
    """A loaded list. ``version`` is the SHA-256 over the canonical content, so equal content has equal versions
    whatever the order of its lines, its line ends or its compression."""

    list_id: str
    entries: tuple[Entry, ...]
    version: str
    source: Path
    warnings: tuple[str, ...] = field(default=())

    @property
    def names(self) -> int:
        """How many names the list has in all."""
        return sum(len(entry.names) for entry in self.entries)


def content_version(entries: tuple[Entry, ...]) -> str:
    """SHA-256 (hex) over the canonical JSON of the entries in the order of their ids."""
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda e: (len(e.id), e.id)):
        digest.update(orjson.dumps(entry, option=orjson.OPT_SORT_KEYS))
        digest.update(b"\n")
    return digest.hexdigest()
