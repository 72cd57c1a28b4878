"""Why the compliance service refuses: one stable code for each reason, with what to do about it.

A code never changes its meaning. ``docs/reference/problems.md`` has a section for each.
"""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, str]] = {
    # --- screening
    "payment-id-invalid": "The payment id is not an id of this platform.",
    "payment-not-found": "There is no such payment for this tenant.",
    "payment-already-screened": "The payment was screened; its screening and its case, if any, stand.",
    # --- a case
    "case-not-found": "There is no such case for this tenant.",
    "case-closed": "The case is decided or withdrawn; neither can be undone.",
    "saga-only": "Only the payment's own saga may withdraw its case.",
}
"""What ``Rejected.reason`` of this service can be, and what it tells the caller."""
