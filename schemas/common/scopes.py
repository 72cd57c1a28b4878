"""Scopes of the API: what a principal may do. A route names the one it needs; nothing else grants anything."""

from __future__ import annotations

from typing import Final

#: Scopes that exist. ``<area>:*`` grants every scope of its area.
SCOPES: Final[dict[str, str]] = {
    "ledger:read": "Read ledgers, accounts, balances, entries, transactions and holds.",
    "ledger:write": "Create ledgers and accounts, post and reverse transactions, place and end holds.",
    "ledger:close": "Close periods of a ledger, softly or for good, and reopen what is closed softly.",
    "ledger:adjust": "Post adjusting entries into soft-closed periods.",
    "payments:read": "Read payments and their timelines.",
    "payments:write": "Initiate, cancel and refund payments.",
    "compliance:read": "Read compliance cases.",
    "compliance:decide": "Release or block payments that wait for an officer.",
    "search:read": "Search over payments and entries.",
    "events:read": "Follow the stream of events.",
    "auth:admin": "Manage clients and API keys of the own tenant.",
}


def grants(scopes: frozenset[str], wanted: str) -> bool:
    """Whether ``scopes`` contain ``wanted`` or its area's wildcard."""
    return wanted in scopes or f"{wanted.partition(':')[0]}:*" in scopes


def is_known_scope(scope: str) -> bool:
    """Whether ``scope`` is in :data:`SCOPES` or the wildcard of an area that is."""
    area, _, action = scope.partition(":")
    return scope in SCOPES or (action == "*" and any(s.startswith(f"{area}:") for s in SCOPES))
