"""Loader of the US Treasury's SDN list in its delimited layout.

Four files, all comma-separated without a header row, ``-0-`` for null, text in double quotes
(https://ofac.treasury.gov/specially-designated-nationals-list-data-formats-data-schemas):

======================  =====  =====================================================================
``sdn.csv``             12     id, name, type, program, title, call sign, vessel type, tonnage, gross
                               registered tonnage, flag, owner, remarks
``alt.csv``             5      id, number of the other name, ``aka|fka|nka``, name, remarks
``add.csv``             6      id, number of the address, street, city and so on, country, remarks
``sdn_comments.csv``    2      id, continuation of remarks that did not fit
======================  =====  =====================================================================

Each may be compressed (``sdn.csv.gz``). A list that is damaged is refused as a whole, with file and line: a
truncated download must never quietly screen against half of the list. Rows of ``alt.csv`` and ``add.csv``
that name no entry are how a truncation shows when it falls between two lines.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.compliance.lists.countries import country_code
from services.compliance.lists.entries import (
    Entry,
    EntryType,
    ListError,
    ListName,
    NameKind,
    SanctionsList,
    content_version,
)
from services.compliance.lists.remarks import read_remarks

LIST_ID: Final = "ofac-sdn"
#: The copy that comes with the product.
BUNDLED: Final = Path(__file__).parent.parent / "data" / "ofac"
#: A file above this is no sanctions list; the published SDN files are below 12 MB each.
MAX_FILE_BYTES: Final = 256 * 1024 * 1024
MAX_NAME_CHARS: Final = 350
_NULL: Final = "-0-"
_TYPES: Final[dict[str, EntryType]] = {
    "": "entity",
    "individual": "individual",
    "vessel": "vessel",
    "aircraft": "aircraft",
}
_NAME_KINDS: Final[dict[str, NameKind]] = {"aka": "aka", "fka": "fka", "nka": "nka"}
_DOS_END_OF_FILE: Final = b"\x1a"


@dataclass(slots=True)
class _Draft:
    """An entry while the four files are read."""

    id: str
    name: str
    type: EntryType
    programs: tuple[str, ...]
    remarks: str
    line: int
    names: list[ListName] = field(default_factory=list)
    countries: set[str] = field(default_factory=set)


def load(folder: Path = BUNDLED) -> SanctionsList:
    """The list in ``folder``; :class:`ListError` names the file and line of what is wrong."""
    warnings: list[str] = []
    drafts = _entries(folder)
    _other_names(folder, drafts)
    _addresses(folder, drafts)
    _comments(folder, drafts, warnings)
    entries = tuple(_finish(draft, warnings) for draft in drafts.values())
    return SanctionsList(LIST_ID, entries, content_version(entries), folder, tuple(warnings))


def _entries(folder: Path) -> dict[str, _Draft]:
    drafts: dict[str, _Draft] = {}
    file = "sdn.csv"
    for line, row in _rows(folder, file, 12):
        identifier = _number(file, line, row[0], "entry id")
        if identifier in drafts:
            raise ListError(
                file, line, f"entry {identifier} is there twice, first on line {drafts[identifier].line}"
            )
        kind = _TYPES.get(row[2].lower())
        if kind is None:
            raise ListError(
                file, line, f"unknown type {row[2][:40]!r}; expected individual, vessel, aircraft or -0-"
            )
        draft = _Draft(identifier, _name(file, line, row[1]), kind, _programs(row[3]), row[11], line)
        draft.names.append(ListName(draft.name))
        draft.countries.add(country_code(row[9]))
        drafts[identifier] = draft
    if not drafts:
        raise ListError(file, None, "there is no entry in it")
    return drafts


def _other_names(folder: Path, drafts: dict[str, _Draft]) -> None:
    file = "alt.csv"
    seen: set[str] = set()
    for line, row in _rows(folder, file, 5):
        draft = _owner(file, line, row[0], drafts)
        number = _number(file, line, row[1], "number of the other name")
        if number in seen:
            raise ListError(file, line, f"other name {number} is there twice")
        seen.add(number)
        kind = _NAME_KINDS.get(row[2].lower())
        if kind is None:
            raise ListError(file, line, f"unknown kind of name {row[2][:40]!r}; expected aka, fka or nka")
        draft.names.append(ListName(_name(file, line, row[3]), kind))


def _addresses(folder: Path, drafts: dict[str, _Draft]) -> None:
    file = "add.csv"
    for line, row in _rows(folder, file, 6):
        draft = _owner(file, line, row[0], drafts)
        _number(file, line, row[1], "number of the address")
        draft.countries.add(country_code(row[4]))


def _comments(folder: Path, drafts: dict[str, _Draft], warnings: list[str]) -> None:
    """Continued remarks. One that names no entry adds nothing to screen by, so it warns and does not refuse."""
    file = "sdn_comments.csv"
    for line, row in _rows(folder, file, 2):
        identifier = _number(file, line, row[0], "entry id")
        draft = drafts.get(identifier)
        if draft is None:
            warnings.append(f"{file}:{line}: remarks of entry {identifier}, which is not in sdn.csv")
        else:
            draft.remarks += row[1]


def _finish(draft: _Draft, warnings: list[str]) -> Entry:
    remarks = read_remarks(draft.remarks)
    warnings.extend(f"sdn.csv:{draft.line}: not a date: {text[:80]!r}" for text in remarks.unread)
    known = {name.text.casefold() for name in draft.names}
    names = draft.names + [name for name in remarks.names if name.text.casefold() not in known]
    return Entry(
        draft.id,
        draft.name,
        draft.type,
        draft.programs,
        tuple(dict.fromkeys(names)),
        tuple(sorted((draft.countries | set(remarks.countries)) - {""})),
        tuple(dict.fromkeys(remarks.births)),
        tuple(dict.fromkeys(remarks.documents)),
    )


def _rows(folder: Path, file: str, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Rows with their line numbers, nulls as empty texts."""
    reader = csv.reader(io.StringIO(_text(folder, file), newline=""), strict=True)
    try:
        for row in reader:
            if not row:
                continue
            if len(row) != columns:
                raise ListError(file, reader.line_num, f"{len(row)} columns where {columns} are expected")
            values = [value.strip() for value in row]
            yield reader.line_num, ["" if value == _NULL else value for value in values]
    except csv.Error as error:
        raise ListError(file, reader.line_num, f"not a line of this layout: {error}") from None


def _text(folder: Path, file: str) -> str:
    plain, packed = folder / file, folder / f"{file}.gz"
    try:
        if plain.exists():
            with plain.open("rb") as raw:
                data = raw.read(MAX_FILE_BYTES + 1)
        elif packed.exists():
            with gzip.open(packed, "rb") as raw:
                data = raw.read(MAX_FILE_BYTES + 1)
        else:
            raise ListError(file, None, f"is neither in {folder} nor there as {file}.gz")
    except (OSError, EOFError) as error:  # gzip reports a truncated file as EOFError
        raise ListError(file, None, f"can not be read: {error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ListError(file, None, f"is larger than {MAX_FILE_BYTES} bytes")
    data = data.rstrip(_DOS_END_OF_FILE + b"\r\n")
    text = _decode(file, data)
    if (nul := text.find("\0")) >= 0:
        raise ListError(file, text.count("\n", 0, nul) + 1, "has a NUL byte, it is not text")
    return text


def _decode(file: str, data: bytes) -> str:
    """UTF-8, or the Windows code page that older vintages were published in."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ListError(
                file, line, f"has a byte that is neither UTF-8 nor Windows-1252: {error}"
            ) from None


def _owner(file: str, line: int, identifier: str, drafts: dict[str, _Draft]) -> _Draft:
    draft = drafts.get(_number(file, line, identifier, "entry id"))
    if draft is None:
        raise ListError(file, line, f"entry {identifier} is not in sdn.csv: the files are not of one list")
    return draft


def _number(file: str, line: int, text: str, what: str) -> str:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ListError(file, line, f"{what} is not a number: {text[:40]!r}")
    return str(int(text))


def _name(file: str, line: int, text: str) -> str:
    if not text:
        raise ListError(file, line, "the name is missing")
    if len(text) > MAX_NAME_CHARS:
        raise ListError(file, line, f"the name has {len(text)} characters, more than {MAX_NAME_CHARS}")
    return text


def _programs(text: str) -> tuple[str, ...]:
    """``"SDGT] [IFSR"`` -> ``("SDGT", "IFSR")``: the brackets of the printed list are cut off at both ends."""
    return tuple(part.strip(" []") for part in text.split("] [") if part.strip(" []"))
