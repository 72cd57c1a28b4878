"""Whatever happens between the services, every payment ends once, with its money right and no hold left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sagas.payment.refund as refund
import sagas.payment.saga as saga
import sagas.payment.sending as sending
from events.decider import InvariantViolationError
from sagas.payment import deadlines, endings
from sagas.payment.flow import Step
from services.payments import domain
from services.payments.state import Settled
from tests.unit.sagas.story import BAD, live_through, story
from tests.unit.sagas.verdict import assert_sound
from tests.unit.sagas.world import Trouble

percent = st.integers(0, 40)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    payments=st.integers(1, 5),
    lose=percent,
    double=percent,
    republish=percent,
    crash=st.integers(0, 15),
    refuse=percent,
    deny=percent,
    hit=percent,
    slow=st.integers(0, 10),
    forget_results=percent,
)
def test_every_payment_ends_once_and_right(seed: int, payments: int, **trouble: int) -> None:
    ends = story(seed, Trouble(**trouble), payments=payments)
    assert ends["settled"] + ends["rejected"] + ends["cancelled"] + ends["failed"] == payments


def test_two_thousand_sagas_with_a_fifth_of_the_steps_failing() -> None:
    """R12 on the domains alone: two hundred worlds of ten payments each, so that steps wait no longer than real ones."""
    started = time.monotonic()
    ends: Counter[str] = Counter()
    for seed in range(200):
        ends += story(seed, Trouble(**BAD), payments=10)
    assert ends["settled"] + ends["rejected"] + ends["cancelled"] + ends["failed"] == 2_000
    assert min(ends[how] for how in ("settled", "rejected", "cancelled", "failed")) > 50, ends
    print(f"\n2,000 sagas: {dict(ends)} in {time.monotonic() - started:.1f} s")


def test_without_trouble_what_can_settle_settles() -> None:
    quiet = Trouble(deny=0, hit=0, slow=0)
    world = live_through(1, quiet, payments=1)
    assert assert_sound(world)["settled"] + assert_sound(world)["cancelled"] == 1


# ------------------------------------------------------------------ planted bugs


def _count_only_settled_refunds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refund is checked against what was refunded, not against what is reserved."""
    monkeypatch.setattr(Settled, "refundable", property(lambda p: p.captured - p.refunded))
    monkeypatch.setattr(domain.PaymentsDecider, "check_events", lambda *_: None)
    monkeypatch.setattr(domain.PaymentsDecider, "check", lambda *_: None)


def _new_id_for_every_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Placing is repeated under a new command id."""
    place = sending.place_hold
    monkeypatch.setattr(sending, "place_hold", lambda f: place(f)._replace(key=f"hold/{f.number}"))


def _hold_placed_only_when_expected(t: Any, d: dict[str, Any]) -> bool:
    return t.flow.step == Step.HOLDING and saga._hold_placed(t, d)


def _cancel_after_post(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation is obeyed although post-hold was sent."""

    def cancel(t: Any, d: dict[str, Any]) -> bool:
        if t.flow.step == Step.POSTING:
            endings.end(t, endings.CANCELLED)
            return True
        return saga._cancel(t, d)

    monkeypatch.setitem(saga._HANDLERS, "payments.cancellation-requested.v1", cancel)


def _leave_the_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """A payment that ends in review leaves its case to the officers."""

    def end(t: Any, ending: endings.Ending) -> None:
        t.flow.case_open = False
        endings.end(t, ending)

    monkeypatch.setattr(saga, "end", end)
    monkeypatch.setattr(deadlines, "end", end)


def _refund_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refund whose transaction is not answered is called failed."""
    real = refund.time_out

    def time_out(flow: Any, *rest: Any) -> Any:
        turn = real(flow, *rest)
        if turn is not None and turn.flow.step == "moving":
            turn.flow.reason = "timeout"
            turn.sends[:] = [sending.record_refund(turn.flow)]
            turn.go("recording")
        return turn

    monkeypatch.setattr(refund, "time_out", time_out)


def _end_at_once(t: Any, d: dict[str, Any]) -> bool:
    endings.end(t, endings.Ending("rejected", d["reason"]))
    return True


BUGS: list[Callable[[pytest.MonkeyPatch], None]] = [
    _count_only_settled_refunds,
    _new_id_for_every_hold,
    _cancel_after_post,
    _leave_the_case,
    _refund_gives_up,
]


@pytest.mark.parametrize("plant", BUGS, ids=lambda b: b.__name__.strip("_"))
def test_a_planted_bug_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    caught = None
    for seed in range(200):
        try:
            story(seed, Trouble(**(BAD | {"hit": 30, "slow": 3})), payments=6)
        except (AssertionError, InvariantViolationError, KeyError) as error:
            caught = error
            break
    assert caught is not None, "200 worlds did not notice"


def test_the_worlds_that_catch_bugs_are_sound_without_them() -> None:
    ends = Counter[str]()
    for seed in range(60):
        ends += story(seed, Trouble(**(BAD | {"hit": 30, "slow": 3})), payments=6)
    assert sum(ends[how] for how in ("settled", "rejected", "cancelled", "failed")) == 360
