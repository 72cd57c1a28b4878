"""Why the AI service refuses: one stable code for each reason. ``docs/reference/problems.md`` has a section for each."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, str]] = {
    "payment-id-invalid": "The payment id is not an id of this platform.",
    "payment-not-found": "There is no such payment for this tenant.",
    "payment-already-scored": "The payment was scored; its score stands.",
}
"""What ``Rejected.reason`` of this service can be, and what it tells the caller."""
