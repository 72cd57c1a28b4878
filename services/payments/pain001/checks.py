"""Check digits of bank identifiers."""

from __future__ import annotations

from typing import Final

#: What an initiator writes when there is no end-to-end reference; it need not be unique.
NOT_PROVIDED: Final = "NOTPROVIDED"


def iban_is_valid(iban: str) -> bool:
    """Whether the check digits are right: ISO 13616, mod 97-10 of ISO 7064. Form is the schema's business."""
    turned = (iban[4:] + iban[:4]).upper()
    if not (15 <= len(iban) <= 34 and turned.isascii() and turned.isalnum()):
        return False
    return int("".join(str(int(c, 36)) for c in turned)) % 97 == 1
