"""Downloads: only what was pinned is kept, and a cache is never left half written."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from pathlib import Path

import pytest

from cli.stack import artifacts
from cli.stack.artifacts import Artifact, ArtifactRefusedError, FetchError

_CONTENT = b"a jar, more or less"


def _artifact(content: bytes = _CONTENT, packaging: str = "jar") -> Artifact:
    digest = hashlib.sha256(content).hexdigest()
    return Artifact(f"org.example:thing:{packaging}:1.2", digest, len(content), "kafka")


def _deliver(monkeypatch: pytest.MonkeyPatch, *answers: bytes | Exception) -> list[int]:
    """The next downloads give ``answers``; the list counts them."""
    asked: list[int] = []

    def download(staging: Path, artifact: Artifact, progress: artifacts.Progress) -> Path:
        answer = answers[min(len(asked), len(answers) - 1)]
        asked.append(1)
        if isinstance(answer, Exception):
            raise answer
        file = staging / artifact.filename
        file.write_bytes(answer)
        progress(len(answer))
        return file

    monkeypatch.setattr(artifacts, "_download", download)
    return asked


def test_every_pin_is_whole() -> None:
    pins = artifacts.pinned()
    assert len({pin.path(Path("/c")) for pin in pins}) == len(pins)
    for pin in pins:
        assert re.fullmatch(r"[0-9a-f]{64}", pin.sha256)
        assert re.fullmatch(r"[\w.-]+:[\w.-]+:(jar|zip):[\w.-]+", pin.coordinate)
        assert pin.size > 0
    assert len(artifacts.of_part("elasticsearch")) == 1
    assert any("kafka_2.13" in pin.coordinate for pin in artifacts.of_part("kafka"))


def test_a_good_file_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = _artifact()
    got: list[int] = []
    _deliver(monkeypatch, _CONTENT)
    artifacts.fetch(tmp_path, [wanted], got.append)
    assert wanted.path(tmp_path).read_bytes() == _CONTENT
    assert wanted.present(tmp_path)
    assert sum(got) == len(_CONTENT)
    assert [entry.name for entry in tmp_path.iterdir()] == ["artifacts"]


def test_a_tampered_file_is_refused_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = _artifact()
    asked = _deliver(monkeypatch, _CONTENT.replace(b"jar", b"JAR"))
    with pytest.raises(ArtifactRefusedError, match="is pinned"):
        artifacts.fetch(tmp_path, [wanted], lambda _: None)
    assert not wanted.path(tmp_path).exists()
    assert list(tmp_path.iterdir()) == []
    assert len(asked) == 1, "another digest is no reason to ask again"


def test_a_file_changed_in_the_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = _artifact()
    _deliver(monkeypatch, _CONTENT)
    artifacts.fetch(tmp_path, [wanted], lambda _: None)
    path = wanted.path(tmp_path)
    path.write_bytes(_CONTENT[:-1] + b"!")
    with pytest.raises(ArtifactRefusedError):
        wanted.verify(path)


def test_a_broken_connection_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _deliver(monkeypatch, ConnectionError("reset"), RuntimeError("not found"), _CONTENT)
    artifacts.fetch(tmp_path, [_artifact()], lambda _: None)
    assert len(asked) == 3


def test_no_connection_is_said_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _deliver(monkeypatch, ConnectionError("reset"))
    with pytest.raises(FetchError, match="REQUESTS_CA_BUNDLE"):
        artifacts.fetch(tmp_path, [_artifact()], lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_missing_names_what_is_absent_or_cut_short(tmp_path: Path) -> None:
    pins = artifacts.of_part("elasticsearch")
    assert artifacts.missing(tmp_path, {"elasticsearch"}) == list(pins)
    path = pins[0].path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"short")
    assert artifacts.missing(tmp_path, {"elasticsearch"}) == list(pins)
    assert artifacts.missing(tmp_path, set()) == []


def test_an_archive_is_unpacked_once_and_only_when_it_is_the_right_one(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("thing-1.2/lib/x.txt", "x")
    wanted = _artifact(packed.getvalue(), "zip")
    path = wanted.path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(packed.getvalue() + b"tampered")
    with pytest.raises(ArtifactRefusedError):
        artifacts.unpack(tmp_path, wanted)
    path.write_bytes(packed.getvalue())
    folder = artifacts.unpack(tmp_path, wanted)
    assert (folder / "lib/x.txt").read_text() == "x"
    path.unlink()
    assert artifacts.unpack(tmp_path, wanted) == folder
