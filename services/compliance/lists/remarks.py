"""The remarks column of an OFAC entry: semicolon-separated facts in free text.

What is understood here becomes a field of the entry; the rest is left alone. The forms were taken from the
list itself: ``DOB 16 Nov 1974``, ``alt. DOB circa 1960``, ``DOB 1957 to 1960``, ``nationality Iran``,
``POB Bogota, Colombia``, ``Passport AM354606 (Colombia)``, ``a.k.a. 'BNC'``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from services.compliance.lists.countries import country_code
from services.compliance.lists.entries import Document, ListName, NameKind

_MONTHS: Final = {
    name: number
    for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)
}
_DATE: Final = re.compile(r"^(?:(?:(\d{1,2}) )?([A-Z][a-z]{2}) )?(\d{4})$")
_QUOTED_NAME: Final = re.compile(r"^(a|f|n)\.k\.a\. '(.+)'$")
_BIRTH: Final = re.compile(r"^(?:alt\. )?DOB (.+)$")
_COUNTRY_FACT: Final = re.compile(r"^(?:alt\. )?(?:nationality|citizen|Vessel Flag) (.+)$")
_BIRTH_PLACE: Final = re.compile(r"^(?:alt\. )?POB (.+)$")
_DOCUMENT: Final = re.compile(
    r"^(?:alt\. )?(Diplomatic Passport|Passport|National ID|Cedula|Tax ID|Registration ID|SSN|D\.N\.I\.|R\.F\.C\.|C\.U\.R\.P\.|"
    r"Travel Document Number|Registration Number|Company Number|Vessel Registration Identification|V\.A\.T\. Number|"
    r"Identification Number|Driver's License No\.)"
    r"(?: No\.)? (?P<number>(?:IMO )?[A-Z0-9][A-Za-z0-9/.\-]*)(?: \((?P<country>[^)]+)\))?(?: .*)?$"
)
_KINDS: Final[dict[str, NameKind]] = {"a": "aka", "f": "fka", "n": "nka"}


@dataclass(slots=True)
class Remarks:
    """What was understood of an entry's remarks; ``unread`` has dates that were not."""

    names: list[ListName] = field(default_factory=list)
    births: list[str] = field(default_factory=list)
    countries: list[str] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def read_remarks(text: str) -> Remarks:
    """Facts of a remarks text. Never fails: what is not understood is not a reason to lose an entry."""
    found = Remarks()
    for part in text.split(";"):
        fact = part.strip().removesuffix(".").strip()
        if name := _QUOTED_NAME.match(fact):
            found.names.append(ListName(name[2].strip(), _KINDS[name[1]], "weak"))
        elif birth := _BIRTH.match(fact):
            date = edtf(birth[1])
            if date:
                found.births.append(date)
            else:
                found.unread.append(fact)
        elif country := _COUNTRY_FACT.match(fact):
            found.countries.append(country_code(country[1]))
        elif place := _BIRTH_PLACE.match(fact):
            found.countries.append(_country_of_place(place[1]))
        elif document := _DOCUMENT.match(fact):
            issuer = country_code(document["country"] or "")
            found.documents.append(Document(document[1], document["number"], issuer))
            found.countries.append(issuer)
    return found


def edtf(text: str) -> str:
    """``"16 Nov 1974"`` -> ``"1974-11-16"``; ``"circa 1960"`` -> ``"1960~"``; ``"1957 to 1960"`` -> ``"1957/1960"``.

    ``""`` when the text is no date of these forms.
    """
    first, separator, last = text.strip().partition(" to ")
    if not separator and re.match(r"^circa \d{4}-\d{4}$", text.strip()):
        first, separator, last = text.strip().partition("-")
    approximate = first.startswith("circa ")
    start = _date(first.removeprefix("circa "))
    if not start:
        return ""
    if separator:
        end = _date(last)
        return f"{start}/{end}" if end else ""
    return f"{start}~" if approximate else start


def _date(text: str) -> str:
    match = _DATE.match(text.strip())
    if match is None:
        return ""
    day, month, year = match.groups()
    if month is None:
        return year
    if month not in _MONTHS or (day is not None and not 1 <= int(day) <= 31):
        return ""
    return f"{year}-{_MONTHS[month]:02d}" + (f"-{int(day):02d}" if day else "")


def _country_of_place(place: str) -> str:
    parts = [p.strip() for p in place.split(",")]
    if parts[-1] in {"North", "South"} and len(parts) > 1:  # "Korea, North" has a comma of its own
        return country_code(", ".join(parts[-2:]))
    return country_code(parts[-1])
