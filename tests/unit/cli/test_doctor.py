"""The doctor: each problem comes with what to do about it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from cli.stack import artifacts, doctor
from cli.stack.doctor import Finding
from cli.stack.paths import Layout

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


def test_a_check_that_fails_is_itself_a_finding() -> None:
    def check() -> Finding:
        raise OSError("no such device")

    found = doctor._guarded("clock", check)
    assert (found.name, found.severity) == ("clock", "bad")
    assert "no such device" in found.detail
