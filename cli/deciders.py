"""Every service's domain, for tools that replay history or decide it anew."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any, Final

from events.decider import Decider
from nexafi.settings import Settings

DECIDERS: Final = {
    "ledger": "services.ledger.domain:LedgerDecider",
    "payments": "services.payments.domain:PaymentsDecider",
    "compliance": "services.compliance.domain:ComplianceDecider",
    "ai": "services.ai.domain:AiDecider",
    "auth": "services.auth.domain:AuthDecider",
    "payment-saga": "sagas.payment.decider:PaymentSagaDecider",
}


def decider_of(service: str) -> Decider[Any]:
    """A decider that replays and has nothing to decide anew with; ``KeyError`` for an unknown service."""
    module, _, name = DECIDERS[service].partition(":")
    decider: Decider[Any] = getattr(importlib.import_module(module), name)()
    return decider


def working_decider_of(service: str, settings: Settings) -> Decider[Any]:
    """A decider with all that the service's writer has: the sanctions list, the fraud model, the saga's patience."""
    if service == "compliance":
        from services.compliance.domain import ComplianceDecider
        from services.compliance.sanctions import load_screener

        return ComplianceDecider(load_screener(settings))
    if service == "ai":
        from nexafi.role import Health, RoleContext
        from services.ai.app import breaker_of
        from services.ai.domain import AiDecider

        return AiDecider(breaker_of(RoleContext(settings, asyncio.Event(), Health())))
    if service == "payment-saga":
        from sagas.app import policy
        from sagas.payment.decider import PaymentSagaDecider

        return PaymentSagaDecider(policy(settings))
    return decider_of(service)
