"""Whatever happens between the services, every payment ends once, with its money right and no hold left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.decider import InvariantViolationError
from sagas.payment import deadlines, endings, refund, saga, sending
from sagas.payment.flow import Ending, Step
from services.payments import domain
from services.payments.state import Settled
from tests.unit.sagas.story import BAD, story
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
    """R12 on the domains alone, in one world. Crashes are in the smaller worlds: they replay the whole log here."""
    started = time.process_time()
    ends = story(2026, Trouble(**(BAD | {"slow": 0, "crash": 0})), payments=2_000)
    assert ends["settled"] + ends["rejected"] + ends["cancelled"] + ends["failed"] == 2_000
    assert min(ends[how] for how in ("settled", "rejected", "cancelled", "failed")) > 50, ends
    print(f"\n2,000 sagas: {dict(ends)} in {time.process_time() - started:.1f} s of CPU")


def test_without_trouble_what_can_settle_settles() -> None:
    ends = story(3, Trouble(deny=0, hit=0, slow=0), payments=20)
    assert ends["settled"] > 10
    assert ends["failed"] == 0


# ------------------------------------------------------------------ planted bugs


def _forget_void(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation while holding ends the payment without voiding the hold."""
    monkeypatch.setattr(saga, "void", endings.end)


def _count_only_settled_refunds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refund is checked against what was refunded, not against what is reserved."""
    monkeypatch.setattr(Settled, "refundable", property(lambda p: p.captured - p.refunded))
    monkeypatch.setattr(domain.PaymentsDecider, "check_events", lambda *_: None)
    monkeypatch.setattr(domain.PaymentsDecider, "check", lambda *_: None)


def _new_id_for_every_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Placing is repeated under a new command id."""
    place = sending.place_hold
    monkeypatch.setattr(sending, "place_hold", lambda f: place(f)._replace(key=f"hold/{f.number}"))


def _give_up_a_hold_that_was_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the retries the payment fails though a hold may still be placed, and late holds are ignored."""

    def timed_out(t: Any) -> None:
        endings.end(t, Ending("failed", "timeout-hold"))

    monkeypatch.setitem(deadlines._TIMED_OUT, Step.HOLDING, timed_out)
    monkeypatch.setattr(saga, "after_end", lambda event, now: (saga.begin, []))
    monkeypatch.setitem(saga._HANDLERS, "ledger.hold-placed.v1", _hold_placed_only_when_expected)


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

    def end(t: Any, ending: Ending) -> None:
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


def _post_refused_means_nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused posting ends the payment without voiding the hold."""
    monkeypatch.setitem(saga._REFUSED, (Step.POSTING, "ledger.post-hold.v1"), _end_at_once)


def _end_at_once(t: Any, d: dict[str, Any]) -> bool:
    endings.end(t, Ending("rejected", d["reason"]))
    return True


def _retry_facts_under_the_old_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told again to the payment carries the id of the first time, so a refusal is never revised."""
    for name in ("record_hold", "record_posted", "settle", "record_risk"):
        tell = getattr(sending, name)
        monkeypatch.setattr(sending, name, lambda f, _t=tell, _n=name: _t(f)._replace(key=_n))


BUGS: list[Callable[[pytest.MonkeyPatch], None]] = [
    _forget_void,
    _count_only_settled_refunds,
    _new_id_for_every_hold,
    _give_up_a_hold_that_was_not_answered,
    _cancel_after_post,
    _leave_the_case,
    _refund_gives_up,
    _post_refused_means_nothing_held,
    _retry_facts_under_the_old_id,
]


@pytest.mark.parametrize("plant", BUGS, ids=lambda b: b.__name__.strip("_"))
def test_a_planted_bug_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    caught = None
    for seed in range(300):
        try:
            story(seed, Trouble(**(BAD | {"hit": 30, "slow": 3})), payments=6)
        except (AssertionError, InvariantViolationError, KeyError) as error:
            caught = error
            break
    assert caught is not None, "300 worlds did not notice"


def test_the_worlds_that_catch_bugs_are_sound_without_them() -> None:
    ends = Counter[str]()
    for seed in range(60):
        ends += story(seed, Trouble(**(BAD | {"hit": 30, "slow": 3})), payments=6)
    assert sum(ends[how] for how in ("settled", "rejected", "cancelled", "failed")) == 360
