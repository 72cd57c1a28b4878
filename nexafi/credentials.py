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

#: Scopes that exist. ``<area>:*`` grants every scope of its area.
SCOPES: Final[dict[str, str]] = {
    "ledger:read": "Read ledgers, accounts, balances, entries, transactions and holds.",
    "ledger:write": "Create ledgers and accounts, post and reverse transactions, place and end holds.",
    "payments:read": "Read payments and their timelines.",
    "payments:write": "Initiate, cancel and refund payments.",
    "compliance:read": "Read compliance cases.",
    "compliance:decide": "Release or block payments that wait for an officer.",
    "search:read": "Search over payments and entries.",
    "events:read": "Follow the stream of events.",
    "auth:admin": "Manage clients and API keys of the own tenant.",
}


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


def grants(scopes: frozenset[str], wanted: str) -> bool:
    """Whether ``scopes`` contain ``wanted`` or its area's wildcard."""
    return wanted in scopes or f"{wanted.partition(':')[0]}:*" in scopes


def is_known_scope(scope: str) -> bool:
    """Whether ``scope`` is in :data:`SCOPES` or the wildcard of an area that is."""
    area, _, action = scope.partition(":")
    return scope in SCOPES or (action == "*" and any(s.startswith(f"{area}:") for s in SCOPES))
