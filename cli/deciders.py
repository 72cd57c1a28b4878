"""Every service's domain, for tools that replay history. None is given what it needs to decide anew."""

from __future__ import annotations

import importlib
from typing import Any, Final

from events.decider import Decider

DECIDERS: Final = {
    "ledger": "services.ledger.domain:LedgerDecider",
    "payments": "services.payments.domain:PaymentsDecider",
    "compliance": "services.compliance.domain:ComplianceDecider",
    "ai": "services.ai.domain:AiDecider",
    "auth": "services.auth.domain:AuthDecider",
    "payment-saga": "sagas.payment.decider:PaymentSagaDecider",
}


def decider_of(service: str) -> Decider[Any]:
    """A decider that replays; ``KeyError`` for an unknown service."""
    module, _, name = DECIDERS[service].partition(":")
    decider: Decider[Any] = getattr(importlib.import_module(module), name)()
    return decider
