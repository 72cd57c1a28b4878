"""Places of a shard: the bound follows the delay, and nobody keeps another out."""

from __future__ import annotations

import pytest

from gateway import lanes
from gateway.lanes import MIN_PLACES, TARGET_S, Lane


def quick(most: int) -> Lane:
    """A lane that has given out all it has."""
    lane = Lane(most)
    lane.places = most
    return lane


def flood(lane: Lane, *tenants: str) -> dict[str, int]:
    """Each in turn takes a place until none finds one; what each has then."""
    turned_away: set[str] = set()
    while turned_away != set(tenants):
        for tenant in tenants:
            if lane.full(tenant, 1):
                turned_away.add(tenant)
            else:
                lane.enter(tenant, 1)
    return {t: lane.tenants.get(t, 0) for t in tenants}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its only item is the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(lanes, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("flooders", "share"), [(1, 2), (2, 3), (3, 4), (7, 8)])
def test_who_sends_without_end_leaves_room_for_others(flooders: int, share: int) -> None:
    lane = quick(4_096)
    have = flood(lane, *(f"t{n}" for n in range(flooders)))
    assert all(abs(count - 4_096 // share) <= flooders for count in have.values()), have
    newcomer = flood(lane, "newcomer")["newcomer"]
    assert newcomer >= 4_096 // share // 2


def test_who_has_nothing_under_way_finds_a_place_until_all_are_taken() -> None:
    lane = Lane(1_000)
    lane.places = MIN_PLACES  # it is slow at present
    flood(lane, "busy")
    for number in range(3):
        assert not lane.full(f"t{number}", 200), "a record of a bulk may be larger than a share"
        lane.enter(f"t{number}", 200)
        assert lane.full(f"t{number}", 1)
    lane.enter("x", 1_000 - lane.open)
    assert lane.full("nobody", 1)


def test_slow_answers_take_places_away_and_quick_ones_give_them_back(clock: list[float]) -> None:
    lane = quick(4_096)
    flood(lane, "busy")
    for _ in range(50):
        clock[0] += 0.2
        lane.answered(TARGET_S * 2)
    assert lane.places == MIN_PLACES
    assert lane.full("busy", 1)
    for _ in range(50):
        clock[0] += 0.2
        lane.answered(TARGET_S * 0.7)
    assert lane.places == MIN_PLACES, "between quick and slow it stays"
    for _ in range(50):
        clock[0] += 0.2
        lane.answered(0.01)
    assert lane.places == 4_096


def test_many_answers_at_once_are_one_sign(clock: list[float]) -> None:
    lane = quick(4_096)
    flood(lane, "busy")
    for _ in range(1_000):
        lane.answered(TARGET_S * 2)
    assert lane.places == int(2_048 * 0.8)


def test_a_shard_that_nobody_knows_yet_is_given_a_quarter(clock: list[float]) -> None:
    lane = Lane(4_096)
    assert lane.places == 1_024
    for _ in range(10):
        clock[0] += 0.2
        lane.answered(0.01)
    assert lane.places == 4_096


def test_places_are_given_back() -> None:
    lane = Lane(10)
    lane.enter("a", 3)
    lane.leave("a", 2)
    lane.leave("a", 1)
    assert (lane.open, lane.tenants) == (0, {})
