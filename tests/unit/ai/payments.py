"""Payments of one made-up world, for the tests of the AI service."""

from __future__ import annotations

from pathlib import Path

from nexafi.ids import derived_id, make_id
from schemas.ai.commands import ScorePayment
from schemas.ai.events import PaymentScored
from services.ai.artefact import BUNDLED
from services.ai.domain import AiDecider
from services.ai.onnx_scorer import OnnxScorer
from services.ai.port import Scorer
from services.ai.profiles import HOUR_US
from tests.kit.scenario import ROOT, START_US, Scenario

SHARD = 1
NOON_US = START_US + 12 * HOUR_US
MODEL: Path = BUNDLED


def account(name: str) -> str:
    return make_id(START_US, 3, derived_id(ROOT, f"account/{name}"))


def payment(
    number: int,
    payer: str = "payer",
    payee: str = "payee",
    amount: int = 5_000,
    device: str | None = None,
    currency: str = "EUR",
) -> ScorePayment:
    return ScorePayment(
        payment_id=make_id(START_US, 5, derived_id(ROOT, f"payment/{number}")),
        payer_account_id=account(payer),
        payee_account_id=account(payee),
        device_id=device,
        amount=amount,
        currency=currency,
    )


def scene(scorer: Scorer | None = None) -> Scenario:
    """One shard at noon, so that no payment is at night."""
    return Scenario(AiDecider(scorer or OnnxScorer(MODEL)), shard=SHARD).at(NOON_US)


def scored(s: Scenario, command: ScorePayment, after_us: int = 0) -> PaymentScored:
    """Score a payment ``after_us`` after the last."""
    s.at(s.now_us + after_us).when(command).then(PaymentScored)
    event = s.log[-1][0].event
    assert isinstance(event, PaymentScored)
    return event
