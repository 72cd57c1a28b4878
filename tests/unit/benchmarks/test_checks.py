"""A run in which anything was lost, doubled, unbalanced or told differently fails; each loss is planted once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.checks import Facts, judge
from benchmarks.history import Replay, Verification


def sound() -> Facts:
    return Facts(
        acknowledged=1_000,
        posted=1_000,
        sums={"0/EUR": 0, "1/EUR": 0},
        replay=Replay(
            events=1_100,
            seconds=1.0,
            replayed={0: "aa", 1: "bb"},
            from_snapshot={0: "aa", 1: "bb"},
            snapshots=2,
            balances={"alice": 5, "bob": -5},
        ),
        projected={"alice": 5, "bob": -5},
        published=(1_100, 1_100),
        verification=Verification(1_100, 0.1, []),
    )


def test_a_sound_run_has_nothing_wrong() -> None:
    assert judge(sound()) == []


def _lose_a_transfer(facts: Facts) -> None:
    facts.lost = ["0190-lost"]


def _store_one_less(facts: Facts) -> None:
    facts.posted -= 1


def _store_one_twice(facts: Facts) -> None:
    facts.posted += 1


def _make_money(facts: Facts) -> None:
    facts.sums = {"0/EUR": 0, "1/EUR": 1}


def _sum_nothing(facts: Facts) -> None:
    facts.sums = {}


def _snapshot_says_otherwise(facts: Facts) -> None:
    facts.replay.from_snapshot[1] = "cc"


def _snapshot_is_missing(facts: Facts) -> None:
    del facts.replay.from_snapshot[0]


def _replay_nothing(facts: Facts) -> None:
    facts.replay = Replay()
    facts.projected = None


def _hold_is_left(facts: Facts) -> None:
    facts.replay.open_holds = 1


def _balance_drifts(facts: Facts) -> None:
    facts.projected = {"alice": 6, "bob": -5}


def _account_is_not_projected(facts: Facts) -> None:
    facts.projected = {"alice": 5}


def _account_from_nowhere(facts: Facts) -> None:
    facts.projected = {"alice": 5, "bob": -5, "eve": 0}


def _projection_is_behind(facts: Facts) -> None:
    facts.projected, facts.behind = None, True


def _event_is_not_published(facts: Facts) -> None:
    facts.published = (1_099, 1_100)


def _hash_is_wrong(facts: Facts) -> None:
    facts.verification = Verification(1_100, 0.1, ["ledger/3: the chain breaks"])


def _verify_too_little(facts: Facts) -> None:
    facts.verification = Verification(10, 0.1, [])


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (_lose_a_transfer, "not in the store: 0190-lost"),
        (_store_one_less, "1000 transfers were acknowledged and 999 are stored"),
        (_store_one_twice, "1000 transfers were acknowledged and 1001 are stored"),
        (_make_money, "1/EUR: debits minus credits are 1"),
        (_sum_nothing, "no entries to sum"),
        (_snapshot_says_otherwise, "shard 1: full replay and snapshot"),
        (_snapshot_is_missing, "shard 0: full replay and snapshot"),
        (_replay_nothing, "nothing was replayed"),
        (_hold_is_left, "1 holds are open"),
        (_balance_drifts, "1 balances of the projection are not those of history: alice"),
        (_account_is_not_projected, "1 balances of the projection are not those of history: bob"),
        (_account_from_nowhere, "1 accounts that history does not: eve"),
        (_projection_is_behind, "the projection was behind"),
        (_event_is_not_published, "1099 events were published and 1100 committed"),
        (_hash_is_wrong, "the chain breaks"),
        (_verify_too_little, "10 events were verified"),
    ],
)
def test_each_planted_loss_fails_the_run(plant: Callable[[Facts], None], said: str) -> None:
    facts = sound()
    plant(facts)
    assert any(said in line for line in judge(facts)), judge(facts)
