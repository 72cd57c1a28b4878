"""Scoring: an ordinary payment passes, a burst from a new device does not, and the event explains itself."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from nexafi.ids import derived_id, make_id
from schemas.ai.commands import ScorePayment
from schemas.ai.events import PaymentScored
from services.ai.domain import AiDecider
from services.ai.features import DAY_US, FEATURES, HOUR_US, MINUTE_US, WEEK_US, Window
from services.ai.scoring import BUILT_IN, ModelError, OnnxScorer, RuleScorer, load_scorer
from tests.kit.scenario import ROOT, START_US, Scenario


def payment(number: int, *, payee: int = 0, amount: int = 5_000, device: str | None = None) -> ScorePayment:
    """Payment ``number`` of one payer."""
    account = [make_id(START_US, 3, derived_id(ROOT, f"account-{n}")) for n in (1, 100 + payee)]
    return ScorePayment(
        payment_id=make_id(START_US, 3, derived_id(ROOT, f"payment-{number}")),
        payer_account_id=account[0],
        payee_account_id=account[1],
        device_id=device,
        amount=amount,
        currency="EUR",
    )


def scored(scenario: Scenario, command: ScorePayment) -> PaymentScored:
    outcome = scenario.when(command)
    outcome.then(PaymentScored)
    event = scenario.log[-1][0].event
    assert isinstance(event, PaymentScored)
    return event


def at_noon() -> Scenario:
    scenario = Scenario(AiDecider(load_scorer()))
    return scenario.at(START_US + 12 * HOUR_US)


def test_a_modest_first_payment_is_allowed() -> None:
    event = scored(at_noon(), payment(1))
    assert event.decision == "allow"
    assert event.score_bp < 500
    assert set(event.features) == set(FEATURES)
    assert event.model == "fraud-baseline"
    assert len(event.reasons) == 5


def test_a_burst_from_a_new_device_is_denied() -> None:
    scenario = at_noon()
    decisions = []
    for number in range(12):
        decisions.append(scored(scenario, payment(number, device="new-device")).decision)
        scenario.at(scenario.now_us + 7_000_000)
    assert decisions[0] == "allow"
    assert decisions[-1] == "deny"


def test_an_amount_far_above_history_to_somebody_new_is_denied() -> None:
    scenario = at_noon()
    for number in range(20):
        scored(scenario, payment(number))
        scenario.at(scenario.now_us + DAY_US // 4)
    assert scored(scenario, payment(50, amount=6_000)).decision == "allow"
    assert scored(scenario, payment(51, payee=7, amount=2_000_000, device="other")).decision == "deny"


def test_a_payment_is_scored_once() -> None:
    scenario = at_noon()
    scored(scenario, payment(1))
    scenario.when(payment(1)).rejected("payment-already-scored")
    scenario.when(payment(1), tenant="other").rejected("payment-not-found")


def test_snapshot_and_replay_give_the_same_state() -> None:
    scenario = at_noon()
    for number in range(40):
        scored(scenario, payment(number, payee=number % 5, device=f"d{number % 3}"))
    scenario.assert_replay_equal()


def test_a_recorded_decision_is_reproduced_to_the_bit() -> None:
    scenario = at_noon()
    scorer = load_scorer()
    for number in range(10):
        event = scored(scenario, payment(number, payee=number % 2))
        again = scorer.score(event.features)
        assert (again.score_bp, again.reasons) == (
            event.score_bp,
            [(r.code, r.contribution_bp) for r in event.reasons],
        )


def test_counts_equal_a_brute_force_over_the_past() -> None:
    rng, window, past = random.Random(5), Window(), []
    now = START_US
    for _ in range(60):
        now += rng.randrange(1, 3 * HOUR_US)
        payer, payee = f"p{rng.randrange(3)}", f"b{rng.randrange(4)}"
        features = window.features(payer, payee, None, 100, now)
        mine = [t for t, p, _ in past if p == payer and t > now - WEEK_US]
        assert features["payer_count_1m"] == sum(t > now - MINUTE_US for t in mine)
        assert features["payer_count_1h"] == sum(t > now - HOUR_US for t in mine)
        assert features["payer_count_24h"] == sum(t > now - DAY_US for t in mine)
        assert features["first_beneficiary"] == int(
            not any(p == payer and b == payee and t > now - WEEK_US for t, p, b in past)
        )
        window.note(payer, payee, None, 100, now)
        past.append((now, payer, payee))


def test_a_changed_model_is_refused_and_the_rules_take_over(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(BUILT_IN, folder)
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelError, match="SHA-256"):
        OnnxScorer(folder)
    assert isinstance(load_scorer(folder), RuleScorer)


def test_the_card_names_the_features_and_makes_no_claim() -> None:
    card = json.loads((BUILT_IN / "model.json").read_text())
    assert list(card["features"]) == list(FEATURES)
    assert "No quality on real payments is claimed" in card["intended_use"]
