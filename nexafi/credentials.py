"""Secrets of machines: OAuth 2 client secrets and API keys, and how they are recognised.

A secret is 256 bits derived by HMAC from the installation's key and the command that issues it, so a retry
of the same command (same ``Idempotency-Key``) shows the same secret, and nothing has to be stored in clear.
What is stored is a keyed HMAC-SHA256 of the secret: for random values of this size a slow password hash
adds nothing, and the key keeps a copy of the database useless.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Final

from nexafi.settings import Settings

#: Prefixes make a leaked secret recognisable to scanners.
CLIENT_SECRET: Final = "nfs_"  # noqa: S105 - a prefix
API_KEY: Final = "nfk_"
#: Characters of an API key that may be shown again, to tell keys apart (48 of its 256 bits).
VISIBLE: Final = 12


class CredentialKeys:
    """Derives and hashes secrets with keys of their own, derived from the installation's."""

    def __init__(self, key: bytes) -> None:
        self._derive = hmac.digest(key, b"nexafi/credential-derivation/v1", sha256)
        self._hash = hmac.digest(key, b"nexafi/credential-hash/v1", sha256)

    @classmethod
    def of(cls, settings: Settings) -> CredentialKeys:
        """With the key of these settings."""
        return cls(settings.hmac_key.get_secret_value().encode())

    def secret(self, prefix: str, command_id: str) -> str:
        """The secret that the command ``command_id`` issues: prefix and 43 base64url characters."""
        raw = hmac.digest(self._derive, f"{prefix}{command_id}".encode(), sha256)
        return prefix + urlsafe_b64encode(raw).rstrip(b"=").decode()

    def hash(self, secret: str) -> str:
        """What is stored and compared: 64 hex digits."""
        return hmac.digest(self._hash, secret.encode(), sha256).hex()

    def matches(self, secret: str, stored: str) -> bool:
        """Whether ``secret`` has the hash ``stored``, in constant time."""
        return hmac.compare_digest(self.hash(secret).encode(), stored.encode())


def visible_prefix(api_key: str) -> str:
    """The part of a key that may be shown; only characters that every system can show."""
    return api_key[:VISIBLE].replace("-", "_")
