"""Folders of the local stack: what is ours is marked, and nothing else is ever removed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cli.stack import logfiles, secrets
from cli.stack.paths import CHECKOUT, Layout, checkout_id, data_dir, unreachable
from nexafi.settings import Settings


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data", tmp_path / "cache", None)


def test_data_is_removed_and_nothing_beside_it(layout: Layout) -> None:
    beside = layout.root.parent / "mine.txt"
    beside.write_text("mine")
    layout.create()
    (layout.root / "postgres").mkdir()
    (layout.root / "postgres" / "f").write_text("x")
    layout.wipe()
    assert not layout.root.exists()
    assert beside.read_text() == "mine"


def test_a_folder_with_other_things_is_not_taken(layout: Layout) -> None:
    layout.root.mkdir()
    (layout.root / "thesis.tex").write_text("years of work")
    with pytest.raises(RuntimeError, match=r"thesis\.tex"):
        layout.create()
    with pytest.raises(RuntimeError, match="left alone"):
        layout.wipe()
    assert (layout.root / "thesis.tex").exists()


def test_a_link_in_the_data_is_removed_and_not_followed(layout: Layout, tmp_path: Path) -> None:
    layout.create()
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "kept").write_text("x")
    (layout.root / "link").symlink_to(target)
    layout.wipe()
    assert (target / "kept").exists()


def test_the_data_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEXAFI_DATA_DIR", str(tmp_path))
    assert data_dir() == tmp_path
    monkeypatch.delenv("NEXAFI_DATA_DIR")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert data_dir() == CHECKOUT / ".data"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert checkout_id() in str(data_dir())


def test_a_private_folder_on_the_way_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a").chmod(0o700)
    found = unreachable(inner)
    assert found is not None
    assert found in (tmp_path / "a").parents or found == tmp_path / "a"


def test_secrets_are_made_once_and_only_for_their_owner(layout: Layout) -> None:
    layout.create()
    first = secrets.ensure(layout)
    assert len(first["NEXAFI_HMAC_KEY"]) >= 43
    assert stat.S_IMODE(layout.secrets.stat().st_mode) == 0o600
    assert secrets.ensure(layout) == first == secrets.load(layout)


def test_passwords_of_embedded_servers_come_from_the_data_folder(layout: Layout) -> None:
    layout.create()
    assert "@" in Settings(data_dir=layout.root).database
    assert ":" not in Settings(data_dir=layout.root).database.split("//")[1].split("@")[0]
    made = secrets.ensure(layout)
    found = Settings(data_dir=layout.root)
    assert f"//nexafi:{made['NEXAFI_DATABASE_PASSWORD']}@" in found.database
    assert f"//:{made['NEXAFI_REDIS_PASSWORD']}@" in found.redis
    for value in made.values():
        assert value not in repr(found), "a password must not be printed by accident"
    own = Settings(data_dir=layout.root, database_url="postgresql://a:b@c/d")
    assert own.database == "postgresql://a:b@c/d"


def test_no_role_gets_the_superuser_password(layout: Layout) -> None:
    layout.create()
    secrets.ensure(layout)
    assert secrets.SUPERUSER_PASSWORD in secrets.load(layout)
    assert secrets.SUPERUSER_PASSWORD not in secrets.for_roles(layout)


def test_a_new_secret_joins_those_that_are_there(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.create()
    first = secrets.ensure(layout)
    monkeypatch.setitem(secrets.GENERATED, "NEXAFI_OTHER", lambda: "a=b")
    second = secrets.ensure(layout)
    assert second == first | {"NEXAFI_OTHER": "a=b"}
    assert secrets.load(layout) == second


def test_a_log_that_grew_is_cut_and_its_writer_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "kafka.log"
    with file.open("ab", buffering=0) as writer:
        writer.write(b"x" * 200)
        assert logfiles.bound(tmp_path, max_bytes=100) == [file]
        writer.write(b"after")
    assert file.read_bytes() == b"after"
    assert (tmp_path / "kafka.log.1").read_bytes() == b"x" * 200
    assert logfiles.bound(tmp_path, max_bytes=100) == []
