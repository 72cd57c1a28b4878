"""Forged access tokens of every known kind, made from one real token, the public keys and (for claims) the real key.

Sources: RFC 8725 (JWT best practice), RFC 9068, CVE-2015-9235 (none, HS/RS), CVE-2018-0114 (embedded jwk),
CVE-2022-21449 (psychic signatures), CVE-2020-28042 and CVE-2016-5431 among others.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.jwk import ECKey

from nexafi.settings import Settings
from nexafi.signing import SigningKeys

#: Order of P-256.
N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P: Final = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
Named = tuple[str, str]


def b64(data: bytes | str | Mapping[str, Any]) -> str:
    """base64url without padding; of JSON when given an object."""
    if isinstance(data, Mapping):
        data = json.dumps(data)
    return urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """Inverse of :func:`b64`."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True)
class Forge:
    """What forgeries are made from."""

    real: str
    key: ECKey
    url: str
    foreign: str
    ended: str
    other_tenant: str = "theirs"

    @classmethod
    def of(cls, settings: Settings, real: str, url: str, *, foreign: str, ended: str) -> Forge:
        """From a real token and the installation's keys."""
        return cls(real, SigningKeys.of(settings).newest(), url, foreign, ended)

    @property
    def stem(self) -> str:
        """The real token's payload."""
        return self.real.split(".")[1]

    @property
    def header(self) -> dict[str, Any]:
        out: dict[str, Any] = json.loads(unb64(self.real.split(".")[0]))
        return out

    @property
    def claims(self) -> dict[str, Any]:
        out: dict[str, Any] = json.loads(unb64(self.stem))
        return out

    def signed(self, header: str, payload: str) -> str:
        """With the real key: what is wrong is what the token says."""
        private: Any = self.key.private_key
        return signed_with(private, header, payload)

    def saying(self, **changed: Any) -> str:
        """Really signed, other claims; ``None`` leaves one out."""
        claims = {n: v for n, v in (self.claims | changed).items() if v is not None}
        return self.signed(b64(self.header), b64(claims))

    def headed(self, **changed: Any) -> str:
        """Really signed, another header."""
        header = {n: v for n, v in (self.header | changed).items() if v is not None}
        return self.signed(b64(header), self.stem)


def signed_with(private: ec.EllipticCurvePrivateKey, header: str, payload: str) -> str:
    """A compact JWS over any header and payload, signed as ES256 is."""
    r, s = decode_dss_signature(private.sign(f"{header}.{payload}".encode(), ec.ECDSA(hashes.SHA256())))
    size = (private.curve.key_size + 7) // 8
    s = min(s, N - s) if size == 32 else s
    return f"{header}.{payload}.{b64(r.to_bytes(size, 'big') + s.to_bytes(size, 'big'))}"


def forgeries(forge: Forge) -> list[Named]:
    """All of them, each with a name and no two alike."""
    kinds = (
        unsigned, confused, keyed_by_others, named_keys, fetched_keys, headers_that_ask, kinds_of_token,
        claims, times, signatures, shapes, encodings, nested,
    )  # fmt: skip
    named = {token: f"{kind.__name__}: {name}" for kind in kinds for name, token in kind(forge)}
    return [(name, token) for token, name in named.items()]


def unsigned(forge: Forge) -> Iterator[Named]:
    """``alg`` none in every spelling, with and without something in the place of a signature."""
    for alg in ("none", "None", "NONE", "nOnE", "none ", "", "null", None, 0, False, ["none"], {"none": 1}):
        head = b64(forge.header | {"alg": alg})
        yield f"{alg!r}", f"{head}.{forge.stem}."
        yield f"{alg!r}, the real signature", f"{head}.{forge.stem}.{forge.real.split('.')[2]}"
    head = {n: v for n, v in forge.header.items() if n != "alg"}
    yield "absent", f"{b64(head)}.{forge.stem}.{forge.real.split('.')[2]}"


def confused(forge: Forge) -> Iterator[Named]:
    """The public key as the secret of an HMAC."""
    public: Any = forge.key.public_key
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    jwk = forge.key.as_dict(private=False)
    secrets = {
        "pem": public.public_bytes(serialization.Encoding.PEM, spki),
        "pem stripped": public.public_bytes(serialization.Encoding.PEM, spki).strip(),
        "der": public.public_bytes(serialization.Encoding.DER, spki),
        "point": public.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        ),
        "jwk": json.dumps(jwk).encode(),
        "x": unb64(str(jwk["x"])),
        "kid": forge.header["kid"].encode(),
        "empty": b"",
    }
    for alg, digest in (("HS256", hashlib.sha256), ("HS384", hashlib.sha384), ("HS512", hashlib.sha512)):
        for name, secret in secrets.items():
            body = f"{b64(forge.header | {'alg': alg})}.{forge.stem}"
            yield f"{alg} with {name}", f"{body}.{b64(hmac.digest(secret, body.encode(), digest))}"
    body = f"{b64(forge.header)}.{forge.stem}"
    yield "an HMAC that says ES256", f"{body}.{b64(hmac.digest(secrets['pem'], body.encode(), 'sha256') * 2)}"


def keyed_by_others(forge: Forge) -> Iterator[Named]:
    """Signed by keys that are not ours, on our curve and on others."""
    own = b64(forge.header)
    for name, curve in (("P-256", ec.SECP256R1()), ("P-384", ec.SECP384R1()), ("K-256", ec.SECP256K1())):
        private = ec.generate_private_key(curve)
        yield f"{name} under our kid", signed_with(private, own, forge.stem)
        for alg in ("ES384", "ES256K", "ES512"):
            yield f"{name} as {alg}", signed_with(private, b64(forge.header | {"alg": alg}), forge.stem)
    body = f"{b64(forge.header | {'alg': 'EdDSA'})}.{forge.stem}"
    yield "Ed25519", f"{body}.{b64(ed25519.Ed25519PrivateKey.generate().sign(body.encode()))}"
    from cryptography.hazmat.primitives.asymmetric import padding

    private_rsa = rsa.generate_private_key(65537, 2048)
    for alg, scheme in (
        ("RS256", padding.PKCS1v15()),
        ("PS256", padding.PSS(padding.MGF1(hashes.SHA256()), 32)),
    ):
        body = f"{b64(forge.header | {'alg': alg})}.{forge.stem}"
        yield alg, f"{body}.{b64(private_rsa.sign(body.encode(), scheme, hashes.SHA256()))}"


def named_keys(forge: Forge) -> Iterator[Named]:
    """Key ids that would read a file, a row or a command's output where someone looks keys up by name."""
    kids: tuple[Any, ...] = (
        "", "0", "../../../../dev/null", "/dev/null", "file:///dev/null", "../keys/access-tokens.json",
        "' OR '1'='1", "x' UNION SELECT 'AA", "x'; DROP TABLE keys;--", "$(id)", "`id`", "|id", "%00",
        forge.header["kid"] + "\0", forge.header["kid"] + " ", forge.header["kid"][:-1], forge.url,
        forge.header["kid"].upper(), "\ud800", 0, 1, None, True, [forge.header["kid"]], {"kid": 1}, "A" * 3000,
    )  # fmt: skip
    stranger = ec.generate_private_key(ec.SECP256R1())
    for kid in kids:
        if kid is None:
            yield "absent", forge.headed(kid=None)
            yield "null", forge.signed(b64(forge.header | {"kid": None}), forge.stem)
            continue
        yield f"{str(kid)[:24]!r}", forge.headed(kid=kid)
        yield (
            f"{str(kid)[:24]!r}, another key",
            signed_with(stranger, b64(forge.header | {"kid": kid}), forge.stem),
        )


def fetched_keys(forge: Forge) -> Iterator[Named]:
    """Headers that bring a key or say where to get one; signed by the key they bring."""
    private = ECKey.generate_key("P-256", private=True)
    public = private.as_dict(private=False)
    raw: Any = private.private_key
    brought: dict[str, Any] = {
        "jwk": public,
        "jku": f"{forge.url}/jwks.json",
        "x5u": f"{forge.url}/cert.pem",
        "x5c": ["MIIB"],
        "x5t": "A" * 27,
        "x5t#S256": "A" * 43,
        "url": forge.url,
    }
    for name, value in brought.items():
        for keep_kid in (True, False):
            header = forge.header | {name: value}
            if not keep_kid:
                header["kid"] = private.thumbprint()
            yield f"{name}, {keep_kid}", signed_with(raw, b64(header), forge.stem)
        yield f"{name}, really signed", forge.headed(**{name: value})
    for target in (
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_",
        "http://169.254.169.254/",
        "//x",
        "ftp://x",
    ):
        yield f"jku {target}", signed_with(raw, b64(forge.header | {"jku": target}), forge.stem)


def headers_that_ask(forge: Forge) -> Iterator[Named]:
    """Extensions that must be understood or refused, and members that have no business there."""
    for name, value in (
        ("crit", ["exp"]), ("crit", ["b64"]), ("crit", []), ("crit", "x"), ("b64", False), ("zip", "DEF"),
        ("enc", "A256GCM"), ("cty", "JWT"), ("epk", {}), ("p2c", 10**9), ("apu", "x"), ("iss", "x"), ("nonce", "1"),
    ):  # fmt: skip
        yield f"{name} {value!r}", forge.headed(**{name: value})
    unencoded = b64(forge.header | {"b64": False, "crit": ["b64"]})
    yield "b64 false, unencoded", forge.signed(unencoded, json.dumps(forge.claims))


def kinds_of_token(forge: Forge) -> Iterator[Named]:
    """Tokens of another kind: an id token, a logout token, anything (RFC 8725, 3.11)."""
    for typ in (
        "JWT",
        "jwt",
        "",
        "id_token",
        "logout+jwt",
        "dpop+jwt",
        "at+jwt ",
        "application/jwt",
        1,
        ["at+jwt"],
    ):
        yield f"{typ!r}", forge.headed(typ=typ)
    yield "absent", forge.headed(typ=None)


def claims(forge: Forge) -> Iterator[Named]:
    """Really signed tokens that say what they may not."""
    for name in ("iss", "aud", "sub", "client_id", "scope", "tenant", "iat", "exp", "jti"):
        yield f"no {name}", forge.saying(**{name: None})
    changed: tuple[tuple[str, Any], ...] = (
        ("iss", "https://evil.example"), ("iss", forge.claims["iss"] + "/"), ("iss", ""), ("iss", [forge.claims["iss"]]),
        ("iss", forge.url), ("aud", "other"), ("aud", []), ("aud", [forge.claims["aud"], "other"]), ("aud", ["other"]),
        ("aud", ""), ("aud", {}), ("aud", 1), ("sub", "someone"), ("client_id", forge.foreign), ("client_id", ""),
        ("client_id", 1), ("client_id", "../../api-keys/by-id/x"), ("tenant", forge.other_tenant), ("tenant", ""),
        ("tenant", "*"), ("tenant", ["x"]), ("tenant", 1), ("scope", ["ledger:read"]), ("scope", 1), ("jti", ""), ("jti", 7),
    )  # fmt: skip
    for name, value in changed:
        yield f"{name} = {value!r}", forge.saying(**{name: value})
    for client, what in (
        (forge.foreign, "another tenant's client"),
        (forge.ended, "a client that has ended"),
    ):
        yield what, forge.saying(client_id=client, sub=client)
    nobody = forge.foreign[:-6] + "abcdef"
    yield "a client that never was", forge.saying(client_id=nobody, sub=nobody)


def times(forge: Forge) -> Iterator[Named]:
    """Expired, not yet valid, eternal, and times that are none."""
    now = int(time.time())
    for name, value in (
        ("exp", now - 3600), ("exp", now - 6), ("exp", 0), ("exp", -1), ("exp", now + 10**6), ("exp", 2**63), ("exp", 10**400),
        ("exp", str(now + 60)), ("exp", now + 60.5), ("exp", 1e300), ("exp", True), ("exp", [now + 60]), ("exp", {}),
        ("exp", float("nan")), ("exp", float("inf")),
        ("iat", now + 3600), ("iat", str(now)), ("iat", now + 0.5), ("iat", -(10**9)), ("iat", True), ("iat", 10**30),
        ("nbf", now + 3600), ("nbf", "0"), ("nbf", 1.5), ("nbf", True), ("nbf", [0]), ("nbf", 10**40),
    ):  # fmt: skip
        yield f"{name} = {str(value)[:20]}", forge.saying(**{name: value})


def signatures(forge: Forge) -> Iterator[Named]:
    """Numbers that a careless check of ECDSA lets through, and other writings of the real signature."""
    head, payload, signature = forge.real.split(".")
    raw = unb64(signature)
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    psychic = (
        ("0, 0", 0, 0), ("0, s", 0, s), ("r, 0", r, 0), ("n, n", N, N), ("n, s", N, s), ("r, n", r, N), ("1, 1", 1, 1),
        ("n - 1, n - 1", N - 1, N - 1), ("p, p", P, P), ("s, r", s, r), ("r, n - s", r, N - s), ("n - r, s", N - r, s),
        ("ff", 2**256 - 1, 2**256 - 1), ("r, s + 1", r, s + 1), ("r + 1, s", r + 1, s),
    )  # fmt: skip
    for name, one, two in psychic:
        value = one.to_bytes(32, "big") + two.to_bytes(32, "big")
        yield name, f"{head}.{payload}.{b64(value)}"
        evil = b64(forge.claims | {"scope": "auth:admin"})
        yield f"{name}, other claims", f"{head}.{evil}.{b64(value)}"
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    variants = {
        "DER": encode_dss_signature(r, s), "empty": b"", "r alone": raw[:32], "short": raw[:-1], "long": raw + b"\0",
        "twice": raw * 2, "zeros before": b"\0" * 32 + raw, "reversed": raw[::-1], "huge": raw * 20,
        "r longer": b"\0" + raw[:32] + b"\0" + raw[32:],
    }  # fmt: skip
    for name, value in variants.items():
        yield name, f"{head}.{payload}.{b64(value)}"
    for place in (0, 31, 32, 63):
        flipped = bytearray(raw)
        flipped[place] ^= 1
        yield f"a bit of byte {place}", f"{head}.{payload}.{b64(bytes(flipped))}"


def shapes(forge: Forge) -> Iterator[Named]:
    """What is cut, glued, doubled or of no shape at all."""
    head, payload, signature = forge.real.split(".")
    for cut in (1, 2, 20, 60, 86):
        yield f"{cut} characters cut", forge.real[:-cut]
    for name, text in {
        "no dots": f"{head}{payload}{signature}", "one dot": f"{head}.{payload}", "four parts": f"{forge.real}.x",
        "five parts (a JWE)": f"{head}.{payload}.{signature}.{signature}.{signature}", "dots": "..", "dot before": f".{forge.real}",
        "dot behind": f"{forge.real}.", "no header": f".{payload}.{signature}", "no payload": f"{head}..{signature}",
        "parts turned round": f"{signature}.{payload}.{head}", "two tokens": f"{forge.real}{forge.real}",
        "a header alone": head, "text": "token", "null": "null", "undefined": "undefined", "braces": "{}", "true": "true",
        "an object": json.dumps({"alg": "none"}).replace(" ", ""), "huge": f"{head}.{payload}.{'A' * 3000}",
        "over the bound": f"{head}.{'A' * 20_000}.{signature}",
        "a flattened JWS": json.dumps({"protected": head, "payload": payload, "signature": signature}).replace(" ", ""),
    }.items():  # fmt: skip
        yield name, text
    for name, text in {
        "an array": "[]", "a number": "1", "text": '"x"', "null": "null", "nothing": "", "no JSON": "{", "NUL": "\0",
        "two values": "{}{}", "deep": "[" * 5000, "not UTF-8": "\udcff",
    }.items():  # fmt: skip
        raw = b64(text.encode("utf-8", "surrogateescape"))
        yield f"header is {name}", forge.signed(raw, payload)
        yield f"payload is {name}", forge.signed(head, raw)
    yield "header in UTF-16", forge.signed(b64(json.dumps(forge.header).encode("utf-16")), payload)
    yield "payload in UTF-16", forge.signed(head, b64(json.dumps(forge.claims).encode("utf-16")))
    for name, value in (("alg", "ES256"), ("kid", forge.header["kid"]), ("typ", "at+jwt")):
        doubled = json.dumps(forge.header)[:-1] + f', "{name}": {json.dumps(value)}}}'
        yield f"{name} twice in the header", forge.signed(b64(doubled), payload)
    for name, value in (
        ("tenant", "theirs"),
        ("scope", "auth:admin"),
        ("exp", 2**40),
        ("tenant", forge.claims["tenant"]),
    ):
        doubled = json.dumps(forge.claims)[:-1] + f', "{name}": {json.dumps(value)}}}'
        yield f"{name} twice: {value}", forge.signed(head, b64(doubled))
    folded = json.dumps(forge.claims)[:-1] + ', "ten\\u0061nt": "theirs"}'
    yield "tenant twice, once escaped", forge.signed(head, b64(folded))


def encodings(forge: Forge) -> Iterator[Named]:
    """The real token written otherwise: one token has one text."""
    head, payload, signature = forge.real.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for index, part in enumerate((head, payload, signature)):
        parts = [head, payload, signature]
        spare = {2: 4, 3: 2}.get(len(part) % 4, 0)
        if spare:  # bits of the last character that decode to nothing
            last = alphabet.index(part[-1])
            parts[index] = part[:-1] + alphabet[last ^ 1]
            yield f"part {index}, a spare bit", ".".join(parts)
        for name, text in (
            ("padding", part + "=" * (-len(part) % 4 or 4)), ("a newline", part[:8] + "\\n" + part[8:]),
            ("a star", part[:8] + "*" + part[8:]), ("a percent", part[:8] + "%3D" + part[8:]),
        ):  # fmt: skip
            parts[index] = text
            yield f"part {index}, {name}", ".".join(parts)
    standard = forge.real.replace("-", "+").replace("_", "/")
    if standard != forge.real:
        yield "the other alphabet", standard


def nested(forge: Forge) -> Iterator[Named]:
    """A real token inside of another, and encrypted ones."""
    yield "a JWS in a JWS", forge.signed(b64(forge.header | {"cty": "JWT"}), b64(forge.real))
    yield "a JWS as the payload", forge.signed(b64(forge.header), b64(forge.real))
    for alg in ("dir", "RSA-OAEP", "ECDH-ES", "A128KW", "PBES2-HS256+A128KW"):
        head = b64({"alg": alg, "enc": "A256GCM", "typ": "at+jwt", "kid": forge.header["kid"], "p2c": 10**9})
        yield f"a JWE by {alg}", f"{head}..{b64(b'0' * 12)}.{forge.stem}.{b64(b'0' * 16)}"
