"""Requests that nobody sends by accident: numbers, texts, shapes and bytes that break parsers (S19)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

Named = tuple[str, bytes]

#: What may not stand for a positive amount in minor units, as it would be written into JSON.
NUMBERS: Final = (
    "1e999999", "1E400", "-1e999999", "1e2", "1E0", "1.0", "1.5", "0.1", "-0.0", "-0", "0", "-1", "00", "01", "+1", ".5", "1.",
    "0x10", "1_000", "NaN", "-NaN", "Infinity", "-Infinity", "nan", "inf", "9" * 39, "-" + "9" * 39, "9" * 400, "9" * 5000,
    "1" + "0" * 38, "9" * 4000 + ".5", "true", "false", "null", '"1"', '"1e3"', '"NaN"', '""', "[]", "[1]", "{}", '{"amount":1}',
    "1,", "1 1", "\u0661", "\uff11", "1\u0000", "1e", "1e+", "--1", "0b1", "1n", "1f", "1L", "Number.MAX_VALUE",
)  # fmt: skip

#: What may not stand in a name or text, as JSON source (without the quotes).
TEXTS: Final = (
    b"\\u0000", b"a\\u0000b", b"\\u0001", b"\\u001f", b"\\u007f", b"\x7f", b"\\ud800", b"\\udfff", b"\\ud800\\ud800", b"\\udc00\\ud800",
    b"\xff", b"\xc3\x28", b"\xe2\x82", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xf4\x90\x80\x80", b"\x00", b"\n",
    b"\\x41", b"\\", b"\\u00", b"\\u{41}", b"x" * 200_000,
)  # fmt: skip

#: Query strings that no list takes.
QUERIES: Final = (
    "limit=0", "limit=-1", "limit=201", "limit=1e2", "limit=1.5", "limit=x", "limit=", "limit=00000199999", "limit=" + "9" * 400, "limit=%00",
    "limit=\u0661".encode().hex(), "limit=1&limit=2", "nothing=1", "tenant=theirs", "cursor=x", "cursor=%00", "cursor=" + "A" * 600,
    "cursor=%FF%FE", "cursor=W10", "cursor=bnVsbA", "cursor=WzFlNDAwXQ", "cursor=W251bGxd", "cursor=WzEsMiwzLDRd", "cursor=eyJhIjoxfQ",
    "cursor=" + "W" * 400, "&".join(f"a{n}=1" for n in range(200)), "x=" + "a" * 5000, "%", "%zz=1", "limit=1;limit=2", "=1",
)  # fmt: skip

#: Paths that lead nowhere, whatever a proxy in front would make of them.
PATHS: Final = (
    "/v1", "/v1/", "/v1//ledgers", "//v1/ledgers", "/v1/ledgers/", "/v1/./ledgers", "/v1/ledgers/..%2f..%2finternal", "/v1/ledgers/../clients",
    "/v1/ledgers/%2e%2e/clients", "/v1/ledgers%2f", "/v1/ledgers%00", "/v1/ledgers%0d%0aX: y", "/V1/LEDGERS", "/v1/ledgers;x=1", "/v1/ledgers/..;/clients",
    "/v1/%c0%ae%c0%ae/", "/v1/ledgers/%ff", "/v1\\ledgers", "/v1/ledgers/00000000-0000-0000-0000-000000000000", "/v1/ledgers/undefined", "/v1/ledgers/null",
    "/v1/ledgers/0", "/v1/ledgers/{ledger_id}", "/v1/ledgers/$%7bjndi:ldap://x%7d", "/v1/operations/", "/v1/operations/.", "/v1/operations/a.0.b.c",
    "/internal", "/internal/", "/internal/heads", "/.git/config", "/.env", "/docs", "/redoc", "/openapi.yaml", "/metrics/", "/healthz/x", "/oauth/token/",
    "/" + "a" * 8000, "/" + "a/" * 4000,
)  # fmt: skip


def head(method: str, path: str, token: str, *lines: str, version: str = "1.1") -> bytes:
    """The head of a request with a credential."""
    first = [f"{method} {path} HTTP/{version}", "Host: x", f"Authorization: Bearer {token}"]
    return "\r\n".join([*first, *lines]).encode("latin-1") + b"\r\n\r\n"


def post(path: str, token: str, body: bytes, *lines: str, kind: str = "application/json") -> bytes:
    """A complete command."""
    named = [f"Content-Type: {kind}", "Idempotency-Key: k", f"Content-Length: {len(body)}", *lines]
    return head("POST", path, token, *named) + body


def framings(path: str, token: str) -> Iterator[Named]:
    """Heads whose end of body two parsers would see in two places; behind each stands a second request."""
    inner = head("DELETE", "/v1/api-keys/x", token, "Idempotency-Key: k", "X-Smuggled: yes")
    base = ("Content-Type: application/json", "Idempotency-Key: k")
    chunked = "Transfer-Encoding: chunked"
    for name, lines, body in (
        ("CL and TE", ["Content-Length: 4", chunked], b"0\r\n\r\n"),
        ("TE and CL", [chunked, "Content-Length: 4"], b"0\r\n\r\n"),
        ("CL 0 and TE", ["Content-Length: 0", chunked], b"5c\r\n"),
        ("two CL", ["Content-Length: 2", "Content-Length: 5"], b"{}"),
        ("two equal CL", ["Content-Length: 2", "Content-Length: 2"], b"{}"),
        ("a list of CL", ["Content-Length: 2, 2"], b"{}"),
        ("CL with a sign", ["Content-Length: +2"], b"{}"),
        ("CL negative", ["Content-Length: -2"], b"{}"),
        ("CL in hex", ["Content-Length: 0x2"], b"{}"),
        ("CL with a space inside", ["Content-Length: 2 2"], b"{}"),
        ("CL of another alphabet", ["Content-Length: \xb2"], b"{}"),
        ("CL too big for 64 bits", ["Content-Length: 99999999999999999999"], b"{}"),
        ("a space before the colon", ["Content-Length : 2"], b"{}"),
        ("CL on a folded line", ["X-A: b", " Content-Length: 2", "Content-Length: 2"], b"{}"),
        ("TE identity", ["Transfer-Encoding: identity", "Content-Length: 2"], b"{}"),
        ("TE chunked, identity", ["Transfer-Encoding: chunked, identity"], b"0\r\n\r\n"),
        ("TE unknown", ["Transfer-Encoding: xchunked", "Content-Length: 2"], b"{}"),
        ("two TE", [chunked, "Transfer-Encoding: x"], b"0\r\n\r\n"),
        ("TE with a vertical tab", ["Transfer-Encoding: \x0bchunked", "Content-Length: 2"], b"{}"),
        ("TE in quotes", ['Transfer-Encoding: "chunked"', "Content-Length: 2"], b"{}"),
        ("TE gzip, chunked", ["Transfer-Encoding: gzip, chunked"], b"0\r\n\r\n"),
        ("a bare CR", ["X-A: b\rContent-Length: 0", "Content-Length: 2"], b"{}"),
        ("a bare LF", ["X-A: b\nX-B: c\x00", "Content-Length: 2"], b"{}"),
        ("a NUL in a header", ["X-A: b\x00c", "Content-Length: 2"], b"{}"),
        ("a NUL in a name", ["X-\x00A: b", "Content-Length: 2"], b"{}"),
        ("no colon", ["nonsense", "Content-Length: 2"], b"{}"),
        ("an empty name", [": x", "Content-Length: 2"], b"{}"),
    ):  # fmt: skip
        yield name, head("POST", path, token, *base, *lines) + body + inner


def chunks(path: str, token: str) -> Iterator[Named]:
    """Chunked bodies that are broken, endless or lie about their size."""
    begun = head(
        "POST",
        path,
        token,
        "Content-Type: application/json",
        "Idempotency-Key: k",
        "Transfer-Encoding: chunked",
    )
    yield "a size of 17 digits", begun + b"FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n"
    yield "a negative size", begun + b"-2\r\n{}\r\n0\r\n\r\n"
    yield "a size in decimal words", begun + b"two\r\n{}\r\n0\r\n\r\n"
    yield "0x in the size", begun + b"0x2\r\n{}\r\n0\r\n\r\n"
    yield "no size", begun + b"\r\n{}\r\n0\r\n\r\n"
    yield "no line end behind a chunk", begun + b"2\r\n{}0\r\n\r\n"
    yield "more than the size", begun + b"1\r\n{}\r\n0\r\n\r\n"
    yield "a huge extension", begun + b"2;" + b"a" * 200_000 + b"\r\n{}\r\n0\r\n\r\n"
    yield "huge trailers", begun + b"2\r\n{}\r\n0\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n"
    yield "ten thousand chunks of a byte", begun + b"1\r\n \r\n" * 10_000 + b"2\r\n[]\r\n0\r\n\r\n"
    yield "5 MB in chunks", begun + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 80 + b"0\r\n\r\n"


def wires(token: str) -> Iterator[Named]:
    """Bytes that are no request of ours at all."""
    yield "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200
    yield "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield "HTTP/0.9", b"GET /v1/ledgers\r\n\r\n"
    yield "HTTP/9.9", head("GET", "/v1/ledgers", token, version="9.9")
    yield "no host", f"GET /v1/ledgers HTTP/1.1\r\nAuthorization: Bearer {token}x\r\n\r\n".encode()
    yield "redis", b"*1\r\n$4\r\nPING\r\n"
    yield "kafka", b"\x00\x00\x00\x10\x00\x12\x00\x03\x00\x00\x00\x01\x00\x04test"
    yield "zeros", b"\x00" * 4096
    yield "a lone line end", b"\n" * 40_000
    yield "a method of 40,000 letters", b"G" * 40_000 + b" / HTTP/1.1\r\nHost: x\r\n\r\n"
    yield "a path of 40,000 letters", b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    yield "a header of 100,000 letters", head("GET", "/v1/ledgers", token, "X-A: " + "b" * 100_000)
    yield "ten thousand headers", head("GET", "/v1/ledgers", token, *[f"X-{n}: b" for n in range(10_000)])
    yield "an endless header", b"GET /v1/ledgers HTTP/1.1\r\nHost: x\r\nX-A: " + b"b" * 400_000
    yield "an unknown method", head("BREW", "/v1/ledgers", token)
    yield "TRACE", head("TRACE", "/v1/ledgers", token)
    yield "CONNECT", b"CONNECT internal:5432 HTTP/1.1\r\nHost: internal:5432\r\n\r\n"
    yield "a proxy's request", b"GET http://169.254.169.254/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"
    yield "OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"
    upgrade = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    )
    yield "websocket", head("POST", "/v1/ledgers", token, *upgrade)
    yield (
        "h2c",
        head(
            "POST",
            "/v1/ledgers",
            token,
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABk",
        ),
    )
    yield "a path with a space", head("GET", "/v1/ledgers x", token)
    yield "a path that is not ASCII", b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n"


def bodies(valid: bytes) -> Iterator[Named]:
    """Bodies of a command that is otherwise ``valid`` (an object with an ``amount`` of 1 and a ``reference``)."""
    for number in NUMBERS:
        yield f"amount {number[:24]}", valid.replace(b'"amount":1', b'"amount":' + number.encode())
    for text in TEXTS:
        yield f"reference {text[:12]!r}", valid.replace(b'"reference":"r"', b'"reference":"' + text + b'"')
        yield f"metadata {text[:12]!r}", valid[:-1] + b',"metadata":{"k":"' + text + b'"}}'
        yield f"a name {text[:12]!r}", valid[:-1] + b',"' + text + b'":1}'
    for depth in (200, 1_000, 10_000, 100_000):
        yield f"depth {depth}", b"[" * depth + b"]" * depth
        yield f"depth {depth}, objects", b'{"a":' * depth + b"1" + b"}" * depth
        yield f"depth {depth}, open", b"[" * depth
        yield f"depth {depth} inside", valid[:-1] + b',"metadata":' + b"[" * depth + b"]" * depth + b"}"
    doubled = valid[:-1] + b',"amount":2}'
    yield "a name twice", doubled
    yield "a name twice, once escaped", valid[:-1] + b',"\\u0061mount":2}'
    yield "a metadata name twice", valid[:-1] + b',"metadata":{"a":"1","a":"2"}}'
    yield from {
        "nothing": b"",
        "null": b"null",
        "a number": b"1",
        "text": b'"x"',
        "an array": b"[]",
        "two values": valid + valid,
        "cut": valid[:-1],
        "a BOM": b"\xef\xbb\xbf" + valid,
        "UTF-16": valid.decode().encode("utf-16"),
        "UTF-32": valid.decode().encode("utf-32"),
        "single quotes": valid.replace(b'"', b"'"),
        "a comment": b"/* */" + valid,
        "a trailing comma": valid[:-1] + b",}",
        "NUL behind": valid + b"\0",
        "33 metadata": valid[:-1] + b',"metadata":{' + b",".join(b'"k%d":"v"' % n for n in range(33)) + b"}}",
        "100,000 fields": b"{" + b",".join(b'"k%d":1' % n for n in range(20_000)) + b"}",
        "XML": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
        "a form": b"amount=1&currency=EUR",
        "pickle": b"\x80\x04\x95\x0c\x00\x00\x00",
        "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    }.items()
