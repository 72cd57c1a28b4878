"""Refusals of the AI service."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, str]] = {
    "payment-id-invalid": "The payment's id is not an id of this platform.",
    "payment-already-scored": "This payment has its score; a score is given once.",
    "payment-not-found": "There is no such payment.",
}
