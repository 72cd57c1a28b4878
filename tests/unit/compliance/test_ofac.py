"""The loader reads what is published, and refuses what is damaged with file and line."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from services.compliance.lists import ofac
from services.compliance.lists.entries import Entry, ListError, SanctionsList
from services.compliance.lists.remarks import edtf
from tests.unit.compliance.conftest import SAMPLE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "list"))


def by_id(source: SanctionsList, identifier: str) -> Entry:
    return next(entry for entry in source.entries if entry.id == identifier)


def edit(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / file
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode())


def refused(folder: Path) -> ListError:
    with pytest.raises(ListError) as caught:
        ofac.load(folder)
    return caught.value


def test_the_bundled_list_is_the_one_that_the_documentation_names(bundled: SanctionsList) -> None:
    assert (len(bundled.entries), bundled.names) == (7_379, 19_096)
    assert bundled.version == "749f131f536d184262bb2a86272bf3df5592f698ab9e63ef26ce7d55c0172a67"
    types = {
        t: sum(e.type == t for e in bundled.entries) for t in ("individual", "entity", "vessel", "aircraft")
    }
    assert types == {"individual": 3_845, "entity": 2_994, "vessel": 323, "aircraft": 217}


def test_an_entry_has_its_names_births_countries_and_documents() -> None:
    source = ofac.load(SAMPLE)
    entry = by_id(source, "23194")
    assert (entry.name, entry.type, entry.programs) == ("BEN KHALIFA, Fahmi", "individual", ("LIBYA3",))
    assert entry.births == ("1972-01-02",)
    assert entry.countries == ("LY",)
    assert [(d.kind, d.number, d.country) for d in entry.documents] == [("National ID", "560147C", "LY")]
    strengths = {name.text: name.strength for name in entry.names}
    assert strengths["BIN KHALIFA, Fahmi"] == "strong"
    assert strengths["King of Zawarah"] == "weak"
    assert by_id(source, "25513").programs == ("IRAN",)
    assert by_id(source, "36").type == "entity"


def test_remarks_that_are_continued_are_read_to_their_end() -> None:
    assert by_id(ofac.load(SAMPLE), "12300").type in {"entity", "individual"}
    assert ofac.load(SAMPLE).warnings == ()


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("16 Nov 1974", "1974-11-16"),
        ("Nov 1974", "1974-11"),
        ("1974", "1974"),
        ("circa 1960", "1960~"),
        ("1957 to 1960", "1957/1960"),
        ("circa 1979-1982", "1979/1982"),
        ("01 Jan 1961 to 31 Dec 1961", "1961-01-01/1961-12-31"),
        ("32 Nov 1974", ""),
        ("unknown", ""),
    ],
)
def test_dates_are_edtf(text: str, date: str) -> None:
    assert edtf(text) == date


def test_the_version_is_over_content_not_over_bytes(folder: Path) -> None:
    version = ofac.load(folder).version
    path = folder / "sdn.csv"
    lines = path.read_bytes().split(b"\n")[:-1]
    path.write_bytes(
        b"\r\n".join(reversed(lines)) + b"\r\n\x1a"
    )  # other order, other line ends, DOS end of file
    assert ofac.load(folder).version == version
    for file in folder.glob("*.csv"):
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert ofac.load(folder).version == version


def test_one_changed_letter_is_another_version(folder: Path) -> None:
    version = ofac.load(folder).version
    edit(folder, "alt.csv", "BIN KHALIFA", "BIN KHALIFE")
    assert ofac.load(folder).version != version


@pytest.mark.parametrize(
    ("file", "old", "new", "why"),
    [
        ("sdn.csv", '"individual"', '"robot"', "unknown type"),
        ("sdn.csv", '"BANCO NACIONAL DE CUBA"', "-0- ", "the name is missing"),
        ("sdn.csv", '306,"BANCO', '36,"BANCO', "entry 36 is there twice, first on line 1"),
        ("sdn.csv", '306,"BANCO', 'x306,"BANCO', "entry id is not a number"),
        ("sdn.csv", '306,"BANCO', '306,1,"BANCO', "13 columns where 12 are expected"),
        ("sdn.csv", '"BANCO NACIONAL DE CUBA"', '"' + "A" * 400 + '"', "400 characters"),
        ("sdn.csv", "BANCO", "BAN\0CO", "NUL byte"),
        ("alt.csv", '"aka"', '"alias"', "unknown kind of name"),
        ("alt.csv", "306,220", "307,220", "entry 307 is not in sdn.csv"),
        ("add.csv", "36,25", "37,25", "entry 37 is not in sdn.csv"),
        ("sdn.csv", '"BANCO NACIONAL DE CUBA"', '"BANCO NACIONAL DE CUBA', "not a line of this layout"),
    ],
)
def test_damage_is_refused_with_file_and_line(folder: Path, file: str, old: str, new: str, why: str) -> None:
    edit(folder, file, old, new)
    error = refused(folder)
    assert error.file == file
    assert error.line is not None
    assert why in str(error)
    assert str(error).startswith(f"{file}:{error.line}: ")


def test_a_byte_of_no_known_encoding_is_refused_with_its_line(folder: Path) -> None:
    path = folder / "sdn.csv"
    path.write_bytes(path.read_bytes().replace(b"BANCO", b"BAN\x81CO", 1))
    assert refused(folder).line == 2


@pytest.mark.parametrize("keep", [1, 5, 11])
def test_a_list_that_was_cut_between_two_lines_is_refused(folder: Path, keep: int) -> None:
    path = folder / "sdn.csv"
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:keep]))
    assert "the files are not of one list" in refused(folder).why


def test_a_missing_an_empty_and_a_cut_file_are_refused(folder: Path) -> None:
    (folder / "alt.csv").unlink()
    assert refused(folder).file == "alt.csv"
    packed = gzip.compress((SAMPLE / "alt.csv").read_bytes())
    (folder / "alt.csv.gz").write_bytes(packed[: len(packed) // 2])
    assert "can not be read" in refused(folder).why
    shutil.copy(SAMPLE / "alt.csv", folder)
    (folder / "sdn.csv").write_bytes(b"")
    assert "there is no entry in it" in refused(folder).why


def test_remarks_of_an_unknown_entry_warn(folder: Path) -> None:
    with (folder / "sdn_comments.csv").open("a") as file:
        file.write("999999,\"a.k.a. 'NOBODY'.\"\n")
    assert "entry 999999" in ofac.load(folder).warnings[0]
