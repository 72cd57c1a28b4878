"""The doctor: each problem comes with what to do about it."""

from __future__ import annotations

import resource
import shutil
import socket
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest

from cli.stack import artifacts, doctor, ports
from cli.stack.doctor import Finding
from cli.stack.paths import CHECKOUT, Layout
from nexafi.settings import PORT_OFFSETS, Settings

_GB = 10**9


@pytest.mark.parametrize(
    ("finding", "severity"),
    [
        (doctor.python((3, 10, 9)), "bad"),
        (doctor.python((3, 11, 0)), "ok"),
        (doctor.python((3, 14, 1)), "ok"),
        (doctor.disk("data", Path("/x"), 1 * _GB), "bad"),
        (doctor.disk("data", Path("/x"), 3 * _GB), "warn"),
        (doctor.disk("data", Path("/x"), 50 * _GB), "ok"),
        (doctor.memory(1 * _GB), "bad"),
        (doctor.memory(2_500_000_000), "warn"),
        (doctor.memory(8 * _GB), "ok"),
        (doctor.open_files(1024), "bad"),
        (doctor.open_files(65536), "ok"),
        (doctor.open_files(resource.RLIM_INFINITY), "ok"),
        (doctor.libc("glibc", "2.36"), "ok"),
        (doctor.libc("glibc", "2.17"), "bad"),
        (doctor.libc("", ""), "bad"),
        (doctor.libc("musl", "1.2.4"), "bad"),
        (doctor.clock(5.2), "bad"),
        (doctor.clock(-6.0), "bad"),
        (doctor.clock(0.004), "ok"),
    ],
)
def test_limits(finding: Finding, severity: str) -> None:
    assert finding.severity == severity
    assert bool(finding.mend) == (severity != "ok"), "a problem without a way out helps nobody"


def test_a_readable_secrets_file_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "secrets.env"
    assert list(doctor.secrets_file(file)) == []
    file.write_text("A=b\n")
    file.chmod(0o644)
    (found,) = doctor.secrets_file(file)
    assert (found.severity, found.mend) == ("bad", f"chmod 600 {file}")
    file.chmod(0o600)
    assert [each.severity for each in doctor.secrets_file(file)] == ["ok"]


def test_a_changed_download_is_found_and_named(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path / "cache", None)
    assert [each.severity for each in doctor.cache(layout)] == ["warn"]
    pin = min(artifacts.pinned(), key=lambda each: each.size)
    path = pin.path(layout.cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * pin.size)
    bad, rest = doctor.cache(layout)
    assert bad.severity == "bad"
    assert pin.coordinate in bad.detail
    assert str(path) in bad.mend
    assert rest.severity == "warn"


def test_a_data_folder_of_another_version_is_a_problem(tmp_path: Path) -> None:
    assert list(doctor.data_version(tmp_path, "18.6.3")) == []
    (tmp_path / "PG_VERSION").write_text("17\n")
    (found,) = doctor.data_version(tmp_path, "18.6.3")
    assert found.severity == "bad"
    assert "made by PostgreSQL 17, installed is 18" in found.detail
    assert "nexafi backup" in found.mend
    (tmp_path / "PG_VERSION").write_text("18\n")
    assert [each.severity for each in doctor.data_version(tmp_path, "18.6.3")] == ["ok"]


def test_a_taken_port_is_named_with_its_owner() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        base = taken.getsockname()[1] - PORT_OFFSETS["postgres"]
        found = list(doctor._ports(Settings(port_base=max(1024, base))))
    named = [
        each for each in found if f"{base + PORT_OFFSETS['postgres']}, wanted by postgres" in each.detail
    ]
    assert [each.severity for each in named] == ["bad"]
    assert "NEXAFI_PORT_BASE" in named[0].mend


def test_a_folder_that_can_not_be_written_to_is_a_problem(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder is wanted")
    found = list(doctor._folders(Layout(blocked / "data", tmp_path / "cache", None)))
    assert found[0].severity == "bad"
    assert "choose another" in found[0].mend


def test_a_full_disk_and_scarce_memory_are_seen_in_an_examination(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(10 * _GB, 9 * _GB, _GB // 2))
    memory = namedtuple("memory", "available")
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: memory(_GB))
    monkeypatch.setattr(doctor, "cache", lambda _: [])
    layout = Layout(tmp_path / "data", tmp_path / "cache", None)
    found = {each.name: each for each in doctor.examine(layout, Settings(port_base=ports.free_port_base()))}
    assert found["disk"].severity == "bad"
    assert "0.5 GB free" in found["disk"].detail
    assert found["memory"].severity == "bad"
    assert found["ports"].severity == "ok"


def test_an_old_python_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """`./dev` itself: with nothing but an old Python on the path it says which is needed."""
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")  # not (3, 11): what `new_enough` asks
    old.chmod(0o755)
    for name in ("sh", "dirname", "pwd"):
        (tmp_path / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    dev = tmp_path / "checkout" / "dev"
    dev.parent.mkdir()
    shutil.copy(CHECKOUT / "dev", dev)
    done = subprocess.run(
        [str(dev), "up"], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "NexaFi needs Python 3.11 or later" in done.stderr
    assert not (dev.parent / ".venv").exists()


def test_a_check_that_fails_is_itself_a_finding() -> None:
    def check() -> Finding:
        raise OSError("no such device")

    found = doctor._guarded("clock", check)
    assert (found.name, found.severity) == ("clock", "bad")
    assert "no such device" in found.detail
