"""Settings that are only good enough for one's own machine start nothing anywhere else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nexafi.settings import DEFAULT_HMAC_KEY, Settings
from tests.kit.source import ROOT

GOOD = "x" * 32


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_the_default_key_is_good_enough_on_loopback(host: str) -> None:
    assert Settings(host=host, hmac_key=DEFAULT_HMAC_KEY).complaint() is None  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "ledger.internal"])
@pytest.mark.parametrize("key", [DEFAULT_HMAC_KEY, "short", "", "change-me-" + GOOD])
def test_a_bad_key_is_refused_off_loopback(host: str, key: str) -> None:
    complaint = Settings(host=host, hmac_key=key).complaint()  # type: ignore[arg-type]
    assert complaint is not None
    assert "NEXAFI_HMAC_KEY" in complaint
    assert not key or key == DEFAULT_HMAC_KEY or key not in complaint
    assert "openssl rand" in complaint


def test_production_refuses_it_on_loopback_too() -> None:
    settings = Settings(environment="production", hmac_key=DEFAULT_HMAC_KEY)  # type: ignore[arg-type]
    assert "production" in (settings.complaint() or "")
    assert Settings(environment="production", host="0.0.0.0", hmac_key=GOOD).complaint() is None  # type: ignore[arg-type]


def test_a_process_says_so_and_ends_as_broken() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("NEXAFI_")}
    done = subprocess.run(
        [sys.executable, "-m", "cli.runner", "gateway"],
        cwd=ROOT,
        env=env | {"NEXAFI_HOST": "0.0.0.0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 78
    assert "NEXAFI_HMAC_KEY is the default, and NEXAFI_HOST is 0.0.0.0" in done.stderr
