"""Features against a brute-force oracle that knows the whole past; bounds; and planted bugs that the oracle notices."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import log2
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ai import features, profiles
from services.ai.features import FEATURES, Memory, Subject, features_of, scaled_amount, take_in
from services.ai.fixed_point import SATURATED, log2_q8, ratio_bp
from services.ai.profiles import (
    DAY_US,
    HOUR_US,
    MAX_HISTORY,
    MAX_OTHERS,
    SECOND_US,
    WINDOWS,
    History,
    Parties,
    Profile,
    Seen,
)
from tests.kit.scenario import START_US


class Past(NamedTuple):
    time_us: int
    subject: Subject
    allowed: bool


def oracle(past: list[Past], s: Subject, now: int) -> dict[str, int]:
    """The windows, newness and counts of different parties, from the whole past."""
    of = {
        "payer": [p for p in past if (p.subject.payer, p.subject.currency) == (s.payer, s.currency)],
        "payee": [p for p in past if (p.subject.payee, p.subject.currency) == (s.payee, s.currency)],
    }
    if s.device is not None:
        of["device"] = [
            p
            for p in past
            if (p.subject.tenant, p.subject.device, p.subject.currency) == (s.tenant, s.device, s.currency)
        ]
    out: dict[str, int] = {}
    for who, mine in of.items():
        for shape in WINDOWS:
            first = now // shape.width_us - shape.buckets + 1
            inside = [p.subject.amount for p in mine if p.time_us // shape.width_us >= first]
            out[f"{who}_count_{shape.name}"] = len(inside)
            out[f"{who}_amount_{shape.name}"] = sum(inside)
    day = (now - DAY_US) // SECOND_US
    mine = of["payer"]

    def different(rows: list[Past], key: Callable[[Subject], str]) -> int:
        return len({key(p.subject) for p in rows if p.time_us // SECOND_US >= day})

    firsts = [p.time_us // SECOND_US for p in mine if p.subject.payee == s.payee]
    out["payer_is_new"] = int(not mine)
    out["payee_is_new"] = int(not firsts or min(firsts) * SECOND_US >= now - DAY_US)
    out["payer_payees_24h"] = different(mine, lambda x: x.payee)
    out["payee_payers_24h"] = different(of["payee"], lambda x: x.payer)
    if s.device is not None:
        out["device_payers_24h"] = different(of["device"], lambda x: x.payer)
    if mine:
        out["payer_age_s"] = (now - mine[0].time_us) // SECOND_US
        out["payer_since_last_s"] = (now - mine[-1].time_us) // SECOND_US
    habits = [p.subject.amount for p in mine if p.allowed]
    if len(habits) >= features.MIN_HISTORY:
        out["amount_to_mean_bp"] = s.amount * 10_000 // (sum(habits) // len(habits))
    usual = out["payer_count_7d"] - out["payer_count_24h"]
    if usual >= features.MIN_USUAL:
        out["payer_burst_bp"] = out["payer_count_1h"] * features.USUAL_DAYS * 10_000 // usual
    return out


def compare(seed: int, payments: int = 400) -> int:
    """Run a random past through the memory and compare every feature that the oracle knows; how many were compared."""
    compared = 0
    draw, memory, past, now = random.Random(seed), Memory(), [], START_US
    for _ in range(payments):
        now += draw.choice([SECOND_US // 3, 7 * SECOND_US, 200 * SECOND_US, HOUR_US, 5 * HOUR_US])
        s = Subject(
            draw.choice(["t1", "t2"]),
            f"p{draw.randrange(4)}",
            f"b{draw.randrange(6)}",
            draw.choice([None, "d0", "d1"]),
            draw.randrange(1, 100_000),
            draw.choice(["EUR", "EUR", "USD"]),
        )
        found = features_of(memory, s, now)
        expected = oracle(past, s, now)
        assert {name: found.get(name) for name in expected} == expected
        compared += len(expected)
        assert found.keys() <= FEATURES.keys()
        if s.device is None:
            assert not any(name.startswith("device") for name in found)
        assert ("amount_to_mean_bp" in found) == ("amount_to_mean_bp" in expected)
        allowed = draw.random() < 0.8
        take_in(memory, s, now, allowed=allowed)
        past.append(Past(now, s, allowed))
    assert Memory.read(memory.rows()).rows() == memory.rows()
    return compared


def compare_all() -> None:
    for seed in range(6):
        compare(seed)


@pytest.mark.parametrize("seed", range(6))
def test_features_equal_the_oracle(seed: int) -> None:
    assert compare(seed) > 400 * 20


def plant_window_too_long(m: pytest.MonkeyPatch) -> None:
    shapes = tuple(replace_buckets(shape) for shape in WINDOWS)
    m.setattr(profiles, "WINDOWS", shapes)


def replace_buckets(shape: profiles.WindowShape) -> profiles.WindowShape:
    return shape._replace(buckets=shape.buckets + 1)


def plant_currency_ignored(m: pytest.MonkeyPatch) -> None:
    take = take_in
    m.setattr(
        "tests.unit.ai.test_features.take_in",
        lambda *a, **k: take(a[0], a[1]._replace(currency="EUR"), a[2], **k),
    )


def plant_denied_is_a_habit(m: pytest.MonkeyPatch) -> None:
    take = take_in
    m.setattr("tests.unit.ai.test_features.take_in", lambda *a, **_: take(*a, allowed=True))


def plant_first_seen_forgotten(m: pytest.MonkeyPatch) -> None:
    def note(self: Seen, identifier: int, time_us: int) -> None:
        now = profiles._seconds(time_us)
        self._times.pop(identifier, None)
        self._times[identifier] = now << 32 | now

    m.setattr(Seen, "note", note)


@pytest.mark.parametrize(
    "plant",
    [plant_window_too_long, plant_currency_ignored, plant_denied_is_a_habit, plant_first_seen_forgotten],
)
def test_a_planted_bug_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        compare_all()


def test_memory_is_bounded() -> None:
    parties = Parties(limit=3)
    for n in range(10):
        parties.touch(f"p{n}", START_US + n)
    parties.touch("p8", START_US + 11)
    parties.touch("p10", START_US + 12)
    assert [key for key, _ in parties.rows()] == ["p9", "p8", "p10"]  # by last seen, not by first
    seen, profile = Seen(), Profile(START_US, START_US)
    for n in range(1_000):
        seen.note(n, START_US + n * SECOND_US)
        profile.add(5, START_US + n * HOUR_US)
    assert len(seen) == MAX_OTHERS
    assert all(
        len(slots) <= 3 * (shape.buckets + 1) for shape, slots in zip(WINDOWS, profile.windows, strict=True)
    )


def test_old_habits_fade() -> None:
    history = History()
    for _ in range(MAX_HISTORY * 2):
        history.add(100)
    assert history.count <= MAX_HISTORY
    for _ in range(MAX_HISTORY * 4):
        history.add(10_000)
    assert history.mean > 9_000
    assert history.deviation_centi(100) < -300 < history.deviation_centi(10_000)


@given(st.integers(1, 10**38), st.integers(1, 10**38))
def test_the_logarithm_is_monotone_and_near(a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert log2_q8(low) <= log2_q8(high)
    assert -24 <= log2_q8(high) - 256 * log2(high) <= 1


def test_amounts_are_scaled_and_saturate() -> None:
    assert scaled_amount(1_250, "EUR") == 1_250
    assert scaled_amount(10**18, "ETH") == 10**6
    assert scaled_amount(10**38 - 1, "EUR") == SATURATED
    assert ratio_bp(10**30, 0, 500) == 500


def test_features_do_not_change_memory() -> None:
    memory = Memory()
    s = Subject("t", "p", "b", "d", 100, "EUR")
    take_in(memory, s, START_US, allowed=True)
    before = memory.rows()
    features_of(memory, s._replace(payer="unknown", payee="unknown", device="unknown"), START_US + 1)
    assert memory.rows() == before
