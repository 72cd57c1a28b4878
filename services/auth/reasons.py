"""Why the auth service refuses: one stable code for each reason.

A code never changes its meaning. ``docs/reference/problems.md`` has a section for each.
"""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, str]] = {
    "unknown-scope": "A scope is not one of this platform's.",
    "client-not-found": "There is no such client for this tenant.",
    "client-disabled": "The client was disabled before.",
    "key-not-found": "There is no such API key for this tenant.",
    "key-revoked": "The API key was revoked before.",
    "expires-in-the-past": "The end of the key is not after the time of the command.",
    "too-many-credentials": "The tenant has as many live clients or keys on this shard as one may have.",
    "invalid-tenant": "A tenant's name is lower-case letters, digits and hyphens, at most 63 characters.",
}
