"""What the baseline allows and denies, with figures; and what the domain refuses."""

from __future__ import annotations

import random

import pytest

from events.decider import InvariantViolationError
from schemas.ai.commands import ScorePayment
from schemas.ai.events import PaymentScored
from services.ai.domain import AiDecider, score_id
from services.ai.profiles import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from services.ai.reasons import REASONS
from tests.kit.risk import PLANTED_MODEL, PlantedScorer
from tests.kit.scenario import ROOT, START_US, Scenario
from tests.unit.ai.payments import SHARD, account, payment, scene, scored


def with_history(payments: int = 20, amount: int = 5_000) -> Scenario:
    """A payer who pays one beneficiary every six hours with one phone."""
    s = scene()
    for number in range(payments):
        assert scored(s, payment(number, amount=amount, device="phone"), 6 * HOUR_US).decision == "allow"
    return s


def test_a_first_payment_of_fifty_euro_is_allowed() -> None:
    event = scored(scene(), payment(1))
    assert event.decision == "allow"
    assert event.score_bp < 300
    assert event.features["amount"] == 5_000
    assert event.features["payer_is_new"] == event.features["payee_is_new"] == 1
    assert "amount_to_mean_bp" not in event.features  # not known is absent, not zero
    assert "device_count_1m" not in event.features


def test_a_first_payment_at_night_to_a_shop_that_hundreds_pay_is_allowed() -> None:
    s = scene()
    for number in range(300):
        event = scored(s, payment(number, payer=f"customer-{number}", payee="shop"), SECOND_US)
        assert event.decision == "allow", number
    s.at(START_US + DAY_US + 2 * HOUR_US)
    event = scored(s, payment(999, payer="newcomer", payee="shop", device="phone"))
    assert event.features["is_night"] == 1
    assert event.decision == "allow"
    assert event.score_bp < 2_000


def test_a_usual_payment_and_a_somewhat_larger_one_are_allowed() -> None:
    s = with_history()
    assert scored(s, payment(100, device="phone"), HOUR_US).score_bp < 100
    assert scored(s, payment(101, amount=20_000, device="phone"), HOUR_US).decision == "allow"


@pytest.mark.parametrize("device", [None, "other-phone"])
def test_fifty_times_the_usual_amount_to_somebody_new_is_denied(device: str | None) -> None:
    event = scored(with_history(), payment(100, payee="stranger", amount=250_000, device=device), HOUR_US)
    assert event.decision == "deny"
    assert event.features["amount_to_mean_bp"] == 500_000
    codes = [reason.code for reason in event.reasons]
    assert {"amount_deviation_centi", "payee_is_new"} <= set(codes)
    assert [r.contribution_bp for r in event.reasons] == sorted(
        (r.contribution_bp for r in event.reasons), reverse=True
    )


def test_a_burst_from_a_device_is_denied() -> None:
    s = scene()
    decisions = [
        scored(s, payment(n, payee=f"shop-{n}", amount=200, device="tester"), 3 * SECOND_US).decision
        for n in range(40)
    ]
    assert decisions[:4] == ["allow"] * 4
    assert set(decisions[20:]) == {"deny"}


def test_a_device_that_tries_many_accounts_is_denied() -> None:
    s = scene()
    for n in range(12):
        last = scored(
            s, payment(n, payer=f"victim-{n}", payee=f"shop-{n}", amount=300, device="tester"), 20 * SECOND_US
        )
    assert last.decision == "deny"
    assert last.features["device_payers_24h"] == 11


def test_a_bulk_without_a_device_is_allowed() -> None:
    s = scene()
    for n in range(200):
        assert (
            scored(s, payment(n, payee=f"employee-{n}", amount=250_000 + n), SECOND_US // 4).decision
            == "allow"
        )


def test_what_was_denied_does_not_become_a_habit() -> None:
    s = with_history()
    for n in range(100, 110):
        assert scored(s, payment(n, payee="stranger", amount=250_000), MINUTE_US).decision == "deny"
    assert (
        scored(s, payment(200, payee="stranger", amount=250_000), MINUTE_US).features["payer_history"] == 20
    )


def test_the_event_has_all_that_reproduces_it() -> None:
    event = scored(scene(PlantedScorer(4_999)), payment(1, device="phone"))
    assert (event.model, event.model_version, event.model_sha256, event.threshold_bp) == PLANTED_MODEL
    assert (event.score_bp, event.decision) == (4_999, "allow")
    assert scored(scene(PlantedScorer(5_000)), payment(1)).decision == "deny"


def test_a_payment_is_scored_once() -> None:
    s = scene(PlantedScorer())
    result = s.when(payment(1)).accepted()
    assert result == {
        "score_id": score_id(payment(1).payment_id, SHARD),
        "decision": "allow",
        "score_bp": 100,
    }
    s.when(payment(1)).rejected("payment-already-scored", "/payment_id")
    s.when(payment(1), tenant="other").rejected("payment-not-found", "/payment_id")
    s.state = s.decider.load(s.decider.dump(s.state))
    s.when(payment(1)).rejected("payment-already-scored")
    command = ScorePayment(**{**payment(1).model_dump(), "payment_id": ROOT})
    s.when(command).rejected("payment-id-invalid", "/payment_id")
    assert set(REASONS) == {"payment-already-scored", "payment-not-found", "payment-id-invalid"}


def test_without_a_scorer_nothing_is_allowed() -> None:
    with pytest.raises(InvariantViolationError, match="without a scorer"):
        Scenario(AiDecider(), shard=SHARD).when(payment(1))


def test_devices_of_two_tenants_are_two_devices() -> None:
    s = scene(PlantedScorer())
    for n in range(5):
        s.when(payment(n, device="d"), tenant="one")
    s.when(payment(9, payer="another", device="d"), tenant="two").then(PaymentScored)
    event = s.log[-1][0].event
    assert isinstance(event, PaymentScored)
    assert event.features["device_count_1h"] == 0


def test_amounts_of_two_currencies_are_never_added() -> None:
    s = scene(PlantedScorer())
    scored(s, payment(1, amount=10**20, currency="ETH"))
    event = scored(s, payment(2, amount=700, currency="EUR"))
    assert event.features["payer_amount_1h"] == 0
    assert event.payer_account_id == account("payer")
    s.assert_replay_equal()


def test_the_largest_amount_is_scored_and_kept() -> None:
    s = scene()
    for n in range(5):
        scored(s, payment(n, amount=10**38 - 1, currency="ETH"))
    s.assert_replay_equal()


def test_snapshot_and_tail_equal_replay_at_every_cut() -> None:
    draw, s = random.Random(9), scene(PlantedScorer())
    for n in range(120):
        command = payment(
            n,
            f"p{draw.randrange(4)}",
            f"b{draw.randrange(6)}",
            draw.randrange(1, 10**6),
            draw.choice([None, "d1", "d2"]),
        )
        scored(s, command, draw.randrange(1, 9 * HOUR_US))
    whole = s.decider.dump(s.state)
    for cut in range(0, 121, 17):
        state = s.decider.initial(SHARD)
        for number, (emit, meta) in enumerate(s.log):
            if number == cut:
                state = s.decider.load(s.decider.dump(state))
            state = s.decider.evolve(state, emit.event, meta)
        assert s.decider.dump(state) == whole
