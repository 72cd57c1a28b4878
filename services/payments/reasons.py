"""Why the payment service refuses: one stable code for each reason, with what to do about it.

A code never changes its meaning. ``docs/reference/problems.md`` has a section for each.
"""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, str]] = {
    # --- a new payment
    "same-account": "Payer and payee are the same account.",
    "ledger-not-found": "The ledger id is not an id of this platform.",
    "account-not-found": "An account id is not an id of this platform.",
    "cross-ledger-not-supported": "Payer and payee must both have their account in the payment's ledger.",
    "unknown-currency": "The code is neither in ISO 4217 nor a registered asset.",
    "already-claimed": "Another payment of this tenant has the external reference.",
    # --- any command about a payment
    "payment-not-found": "There is no such payment for this tenant.",
    # --- cancelling
    "payment-posted": "The money has moved. It can be refunded, not cancelled.",
    "payment-closed": "The payment ended without moving money.",
    # --- refunding
    "payment-not-settled": "Only a settled payment can be refunded.",
    "refund-exceeds-captured": "More than what is left of the captured amount; refunds in flight count.",
    "nothing-left-to-refund": "Everything is refunded or about to be.",
    "too-many-refunds": "The payment has had as many refunds as one payment may have.",
    # --- facts from the saga; a caller can never get past the first
    "saga-only": "Only the payment's own saga may send this command.",
    "already-recorded": "This fact, or one that excludes it, is recorded.",
    "payment-not-in-review": "Only a payment in review is released or blocked.",
    "payment-not-cleared": "Money is held only after risk allowed and screening cleared the payment.",
    "payment-not-held": "Only a held payment is posted.",
    "payment-not-posted": "Only a posted payment settles.",
    "cancellation-not-requested": "A payment ends as cancelled only when somebody asked for it.",
    "refund-not-found": "No such refund is in flight.",
    "refund-outcome-unclear": "A refund either has a transaction or a reason why it failed.",
}
"""What ``Rejected.reason`` of this service can be, and what it tells the caller."""
