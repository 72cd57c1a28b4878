"""Access tokens: ES256 JSON Web Tokens of RFC 9068, made and judged with two keys at most.

The keys live in ``<data_dir>/keys/access-tokens.json`` (mode 0600; a JWK set, newest first) or in
``NEXAFI_SIGNING_KEYS``. The newest signs, both verify, so a rotation breaks no token that is still valid.

Verification pins everything: the algorithm, the type, issuer, audience and times. A header that asks for a
key by URL, brings one, or has critical extensions is refused before anything is looked up; nothing is ever
fetched.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from nexafi.settings import Settings

ALGORITHM: Final = "ES256"
TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})
MAX_TOKEN_CHARS: Final = 4096
#: Seconds that clocks of issuer and verifier may differ.
LEEWAY_S: Final = 5
MAX_KEYS: Final = 2
_HEADER_FIELDS: Final = frozenset({"alg", "typ", "kid"})
_RELOAD_S: Final = 5.0
#: Order of P-256's group (SEC 2, 2.4.2), and the length of a signature of it: two numbers of 32 bytes.
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SIGNATURE_CHARS: Final = 86
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")  # Python's decoder skips what it does not know


class InvalidTokenError(ValueError):
    """The token proves nothing. The message says why, for logs and the client; it holds no part of the token."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid access token says. Times in seconds since the epoch."""

    client_id: str
    tenant: str
    scopes: frozenset[str]
    expires_at: int
    token_id: str


class SigningKeys:
    """The installation's token keys."""

    def __init__(self, path: Path | None, given: str | None = None) -> None:
        self._path = path
        self._mtime = 0
        self._checked = 0.0
        self._keys: dict[str, ECKey] = {}
        if given:
            self._load(given)
        elif path is None:
            self._keys = _by_id([_generate()])
        else:
            if not path.exists():
                _write(path, [_generate()], exclusive=True)
            self._load(path.read_text())
            self._mtime = path.stat().st_mtime_ns

    @classmethod
    def of(cls, settings: Settings) -> SigningKeys:
        """The keys of these settings; made at the first start."""
        given = settings.signing_keys.get_secret_value() if settings.signing_keys else None
        return cls(settings.data_dir / "keys" / "access-tokens.json", given)

    def newest(self) -> ECKey:
        """The key that signs."""
        self._reload()
        return next(iter(self._keys.values()))

    def find(self, kid: str) -> ECKey | None:
        """The key with this id."""
        self._reload()
        if kid not in self._keys:
            self._checked = 0.0  # another process may have rotated a moment ago, and signed with the new key
            self._reload()
        return self._keys.get(kid)

    def jwks(self) -> dict[str, Any]:
        """The public JWK set."""
        self._reload()
        return {
            "keys": [
                {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": ALGORITHM}
                for kid, key in self._keys.items()
            ]
        }

    def rotate(self) -> str:
        """Make a new signing key, keep the last one for verification; the new key's id."""
        if self._path is None:
            keys = [_generate(), *self._keys.values()][:MAX_KEYS]
            self._keys = _by_id(keys)
        elif self._mtime == 0:
            raise ValueError("the keys were given in NEXAFI_SIGNING_KEYS: rotate them where they are kept")
        else:
            keys = [_generate(), *self._keys.values()][:MAX_KEYS]
            _write(self._path, keys, exclusive=False)
            self._load(self._path.read_text())
        return next(iter(self._keys))

    def _reload(self) -> None:
        """Another process may have rotated; a look at the file at most every few seconds."""
        now = time.monotonic()
        if self._path is None or self._mtime == 0 or now - self._checked < _RELOAD_S:
            return
        self._checked = now
        mtime = self._path.stat().st_mtime_ns
        if mtime != self._mtime:
            self._load(self._path.read_text())
            self._mtime = mtime

    def _load(self, text: str) -> None:
        keys = [ECKey.import_key(k) for k in json.loads(text)["keys"]]
        if not 1 <= len(keys) <= MAX_KEYS or any(k.curve_name != "P-256" or not k.is_private for k in keys):
            raise ValueError(f"signing keys: 1 to {MAX_KEYS} private P-256 keys are needed")
        self._keys = _by_id(keys)


def _by_id(keys: list[ECKey]) -> dict[str, ECKey]:
    return {key.thumbprint(): key for key in keys}


def _generate() -> ECKey:
    return ECKey.generate_key("P-256", private=True)


def new_private_keys() -> str:
    """A JWK set with one new private key, for a secret store."""
    return json.dumps({"keys": [_generate().as_dict(private=True)]})


def _write(path: Path, keys: list[ECKey], *, exclusive: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = json.dumps({"keys": [key.as_dict(private=True) for key in keys]})
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".keys-")  # mkstemp makes it 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            try:
                path.hardlink_to(temporary)  # fails when another process was first; then its keys are used
            except FileExistsError:
                return
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class AccessTokens:
    """Issues and verifies access tokens of one installation."""

    def __init__(
        self,
        keys: SigningKeys,
        *,
        issuer: str,
        audience: str,
        lifetime_s: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.keys = keys
        self.issuer = issuer
        self.audience = audience
        self.lifetime_s = lifetime_s
        self._clock = clock

    def issue(self, client_id: str, tenant: str, scopes: list[str]) -> str:
        """A token for this client (RFC 9068)."""
        key = self.keys.newest()
        now = int(self._clock())
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": client_id,
            "client_id": client_id,
            "scope": " ".join(scopes),
            "tenant": tenant,
            "iat": now,
            "exp": now + self.lifetime_s,
            "jti": secrets.token_urlsafe(16),
        }
        header = {"alg": ALGORITHM, "typ": "at+jwt", "kid": key.thumbprint()}
        payload = json.dumps(claims, separators=(",", ":")).encode()
        signed = jws.serialize_compact(header, payload, key, algorithms=[ALGORITHM])
        body, _, signature = signed.rpartition(".")
        return f"{body}.{_low_s(signature)}"

    def verify(self, token: str) -> Claims:
        """The claims of a valid token; :class:`InvalidTokenError` for every other text."""
        if len(token) > MAX_TOKEN_CHARS:
            raise InvalidTokenError("the token is too long")
        key = self._key_of(token)
        try:
            payload = jws.deserialize_compact(token, key, algorithms=[ALGORITHM]).payload
        except (JoseError, ValueError) as error:
            raise InvalidTokenError("the signature does not verify") from error
        return self._judge(_object(payload))

    def _key_of(self, token: str) -> ECKey:
        parts = token.split(".")
        if len(parts) != 3 or not all(_BASE64URL.fullmatch(part) for part in parts):
            raise InvalidTokenError("not a signed token")
        if len(parts[2]) != _SIGNATURE_CHARS or _low_s(parts[2]) != parts[2]:
            raise InvalidTokenError("the signature is not written as it must be")
        header = _object(_decode(parts[0]))
        if header.keys() - _HEADER_FIELDS:
            raise InvalidTokenError("the header has parameters that are not allowed")
        if header.get("alg") != ALGORITHM:
            raise InvalidTokenError("the algorithm is not the one in use")
        kind = header.get("typ")
        if not isinstance(kind, str) or kind.lower() not in TYPES:
            raise InvalidTokenError("not an access token")
        kid = header.get("kid")
        key = self.keys.find(kid) if isinstance(kid, str) else None
        if key is None:
            raise InvalidTokenError("the key is not known")
        return key

    def _judge(self, claims: dict[str, Any]) -> Claims:
        now = self._clock()
        if claims.get("iss") != self.issuer:
            raise InvalidTokenError("another issuer")
        audience = claims.get("aud")
        if audience not in (self.audience, [self.audience]):
            raise InvalidTokenError("another audience")
        expires, issued = _seconds(claims, "exp"), _seconds(claims, "iat")
        if expires <= now - LEEWAY_S:
            raise InvalidTokenError("the token has expired")
        if issued > now + LEEWAY_S or ("nbf" in claims and _seconds(claims, "nbf") > now + LEEWAY_S):
            raise InvalidTokenError("the token is not valid yet")
        if expires - issued > 86_400:
            raise InvalidTokenError("the token lives too long")
        client, tenant, scope, token_id = (claims.get(n) for n in ("client_id", "tenant", "scope", "jti"))
        if not all(isinstance(v, str) and v for v in (client, tenant, token_id)) or not isinstance(
            scope, str
        ):
            raise InvalidTokenError("a claim is missing")
        if claims.get("sub") != client:
            raise InvalidTokenError("the subject is not the client")
        return Claims(str(client), str(tenant), frozenset(scope.split()), expires, str(token_id))


def _decode(part: str) -> bytes:
    """The bytes of a part that is written in the one way in which it can be: spare bits are zero."""
    try:
        data = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError as error:
        raise InvalidTokenError("not a signed token") from error
    if _encode(data) != part:
        raise InvalidTokenError("not a signed token")
    return data


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _low_s(signature: str) -> str:
    """The one of the two writings of an ECDSA signature, (r, s) and (r, n - s), that counts here.

    Whoever has a token could else make a second text of it that is valid as well.
    """
    raw = _decode(signature)
    s = int.from_bytes(raw[32:])
    return _encode(raw[:32] + min(s, _ORDER - s).to_bytes(32)) if 0 < s < _ORDER else signature


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique)  # bytes may be in UTF-16 as well
    except (ValueError, RecursionError) as error:
        raise InvalidTokenError("not a signed token") from error
    if not isinstance(value, dict):
        raise InvalidTokenError("not a signed token")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a name stands twice")
    return out


def _seconds(claims: dict[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int:
        raise InvalidTokenError(f"{name} is not a time")
    return value
