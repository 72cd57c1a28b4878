"""The signer of internal requests: what it proves and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from nexafi.internal_auth import SCOPE_KEY, Caller, InternalAuth, InternalOnly

TARGET = "/internal/v1/ledgers?limit=10"


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(k.encode(), v.encode()) for k, v in headers.items()]


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_signed_request_names_its_caller() -> None:
    auth = InternalAuth(b"k")
    assert auth.verify(raw(auth.sign("acme", "client:1", TARGET)), TARGET) == Caller("acme", "client:1")


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("x-nexafi-tenant", "other"),
        ("x-nexafi-actor", "client:2"),
        ("x-nexafi-signature", ""),
        ("x-nexafi-signature", "0." + "0" * 64),
        ("x-nexafi-signature", "²." + "0" * 64),
    ],
)
def test_any_change_of_a_header_is_refused(change: str, value: str) -> None:
    auth = InternalAuth(b"k")
    headers = auth.sign("acme", "client:1", TARGET) | {change: value}
    assert auth.verify([(k.encode(), v.encode("latin-1")) for k, v in headers.items()], TARGET) is None


def test_another_target_or_key_is_refused() -> None:
    auth = InternalAuth(b"k")
    headers = raw(auth.sign("acme", "client:1", TARGET))
    assert auth.verify(headers, TARGET + "&tenant=x") is None
    assert InternalAuth(b"other").verify(headers, TARGET) is None


def test_parts_can_not_be_shifted() -> None:
    auth = InternalAuth(b"k")
    headers = auth.sign("acme", "x", TARGET) | {"x-nexafi-tenant": "acm", "x-nexafi-actor": "ex"}
    assert auth.verify(raw(headers), TARGET) is None


def test_a_header_sent_twice_is_refused() -> None:
    auth = InternalAuth(b"k")
    headers = raw(auth.sign("acme", "x", TARGET))
    assert auth.verify([*headers, (b"x-nexafi-tenant", b"acme")], TARGET) is None


def test_a_signature_ends_after_two_minutes() -> None:
    clock = Clock()
    auth = InternalAuth(b"k", clock)
    headers = raw(auth.sign("acme", "x", TARGET))
    clock.now += 60
    assert auth.verify(headers, TARGET) is not None
    clock.now += 60
    assert auth.verify(headers, TARGET) is None


async def test_the_guard_lets_only_signed_requests_through() -> None:
    auth = InternalAuth(b"k")
    seen: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope.get(SCOPE_KEY))

    async def send(message: Any) -> None:
        sent.append(message)

    guard = InternalOnly(app, auth)
    scope = {"type": "http", "path": "/internal/v1/x", "raw_path": b"/internal/v1/x", "query_string": b""}
    await guard(scope | {"headers": []}, None, send)
    assert not seen
    assert sent[0]["status"] == 401
    await guard(scope | {"headers": raw(auth.sign("acme", "a", "/internal/v1/x"))}, None, send)
    assert seen == [Caller("acme", "a")]
    await guard(scope | {"path": "/healthz", "headers": []}, None, send)
    assert seen[-1] is None
