"""Rule: a committed file names no package registry, no folder of one developer's machine and no secret."""

from __future__ import annotations

import configparser
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.kit.source import ROOT, committed_files, relative

#: Written in two halves, so that this file does not break its own rule.
_REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("repo1", "maven", "org"),
        ("repo", "maven", "apache", "org"),
        ("proxy", "golang", "org"),
        ("sum", "golang", "org"),
        ("static", "crates", "io"),
        ("index", "crates", "io"),
        ("deb", "debian", "org"),
        ("registry", "hub", "docker", "com"),
        ("registry-1", "docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
    )
)
_HOMES = re.compile(
    r"(?<![\w.~-])/(?:home|Users)/(?!\w*\$|runner\b)[a-z][\w.-]*/|(?<![\w.~-])/root/(?!\.\.)[.\w]|[A-Z]:\\Users\\\w"
)
_SECRETS = re.compile(
    "-----BEGIN " + r"(?:[A-Z]+ )*PRIVATE KEY-----"
    r"|\bAKIA[0-9A-Z]{16}\b|\bghp_[A-Za-z0-9]{36}\b|\bxox[bp]-[0-9A-Za-z-]{20,}|\bsk_live_[0-9A-Za-z]{16,}"
)
#: Binary by their suffix; everything else must be UTF-8 text.
_BINARY = {".onnx", ".png", ".ico", ".gz", ".zip", ".woff2"}


def configured_hosts() -> set[str]:
    """Hosts of whatever mirror this machine installs from: they must not leak either."""
    found = {
        os.environ.get(name, "") for name in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "GOPROXY")
    }
    for path in (Path("/etc/pip.conf"), Path.home() / ".pip/pip.conf", Path.home() / ".config/pip/pip.conf"):
        parser = configparser.ConfigParser()
        if path.is_file():
            parser.read(path)
            found |= {value for section in parser.values() for value in section.values()}
    hosts = {urlsplit(url.split(",")[0]).hostname or "" for url in found if "://" in url}
    return {host for host in hosts if "." in host and host not in {"127.0.0.1", "github.com"}}


def text_files() -> list[tuple[str, str]]:
    return [
        (relative(path), path.read_text(encoding="utf-8"))
        for path in committed_files()
        if path.suffix not in _BINARY
    ]


def offences(pattern: re.Pattern[str], files: list[tuple[str, str]]) -> list[str]:
    """``file:line: match`` for every match."""
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()[:60]}"
        for name, text in files
        for match in pattern.finditer(text)
    ]


def registry_pattern() -> re.Pattern[str]:
    hosts = sorted({*_REGISTRIES, *configured_hosts()})
    return re.compile(r"(?<![\w-])(?:" + "|".join(map(re.escape, hosts)) + r")\b")


def test_no_registry_address() -> None:
    assert offences(registry_pattern(), text_files()) == []


def test_no_folder_of_a_developers_machine() -> None:
    checkout = re.compile(re.escape(str(ROOT)) + r"\b") if len(ROOT.parts) > 2 else re.compile(r"(?!)")
    files = text_files()
    assert offences(_HOMES, files) + offences(checkout, files) == []


def test_no_private_key_and_no_access_token() -> None:
    assert offences(_SECRETS, text_files()) == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("registry", "--index-url https://" + "pypi" + ".org/simple"),
        ("home", "data in /home" + "/alice/nexafi"),
        ("home", "cd /root" + "/work"),
        ("secret", "-----BEGIN EC " + "PRIVATE KEY-----"),
        ("secret", "AKIA" + "ABCDEFGHIJKLMNOP"),
    ],
)
def test_a_planted_offence_is_found(pattern: str, text: str) -> None:
    patterns = {"registry": registry_pattern(), "home": _HOMES, "secret": _SECRETS}
    assert len(offences(patterns[pattern], [("planted.txt", text)])) == 1
