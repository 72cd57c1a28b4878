"""Why a saga ends a payment without money, beside the reasons that the ledger, risk or compliance give themselves."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, str]] = {
    "risk-denied": "The fraud score is above the model's threshold.",
    "sanctions-blocked": "An officer confirmed that a party is on a sanctions list.",
    "cancelled-by-caller": "A caller cancelled the payment before its money moved.",
    "timeout-score": "The fraud score did not come in time.",
    "timeout-screening": "The sanctions screening did not come in time.",
    "timeout-review": "No officer decided about the sanctions hit in time.",
    "timeout-hold": "The ledger did not answer in time whether it holds the money; no hold is left.",
    "timeout-post": "The ledger did not answer in time whether it moved the money; it did not, and no hold is left.",
    "hold-expired": "The hold expired before the money could be moved.",
    "hold-voided": "The hold was released before the money could be moved.",
}
"""What ``payment-failed.v1`` and ``saga-ended.v1`` can have as reason, and what it tells the caller."""
