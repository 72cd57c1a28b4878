"""The evidence for the threshold, on a seeded sample; planted bugs show that the evaluation would notice."""

from __future__ import annotations

import pytest

from benchmarks import screening
from benchmarks.alterations import ALTERATIONS
from services.compliance.lists.entries import SanctionsList
from services.compliance.matching import index, score, vocabulary
from services.compliance.matching.screener import MAX_MATCHES, ListScreener

SAMPLE = 400
EACH_CULTURE = 40


def recall(screener: ListScreener, cases: list[screening.Case], alteration: str) -> int:
    return screening.recall_bp(screener, screening.sample(cases, SAMPLE), ALTERATIONS[alteration])


@pytest.mark.parametrize(
    ("alteration", "first", "other"),
    [
        ("as listed", 9_900, 9_900),
        ("given name first", 9_900, 9_900),
        ("words in any order", 9_900, 9_900),
        ("one error", 9_800, 9_600),
        ("any order, one error", 9_800, 9_600),
        ("two errors", 9_700, 9_500),
        ("marks left out", 9_700, 9_700),
        ("respelled", 9_700, 9_500),
    ],
)
def test_recall(
    screener: ListScreener, bundled: SanctionsList, alteration: str, first: int, other: int
) -> None:
    assert recall(screener, screening.primary_names(bundled), alteration) >= first
    assert recall(screener, screening.other_names(bundled), alteration) >= other


def test_every_listed_name_is_found_as_it_is_listed(screener: ListScreener, bundled: SanctionsList) -> None:
    """Not a share but all of them: only an entry behind ten others of the very same score may be left out."""
    for case in (*screening.primary_names(bundled), *screening.other_names(bundled)[::4]):
        matches = screener.screen(case.name, None)
        own = any(match.entry_id == case.entry_id for match in matches)
        assert own or len(matches) == MAX_MATCHES, case


def test_ordinary_names_seldom_hit(screener: ListScreener) -> None:
    assert screening.false_positives_bp(screener, screening.ordinary_names(EACH_CULTURE)) < 100


@pytest.fixture
def fresh(bundled: SanctionsList) -> ListScreener:
    return ListScreener(bundled)


def test_planted_no_fuzzy_words(
    bundled: SanctionsList, fresh: ListScreener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary.Vocabulary, "_compare", lambda *_: 0)
    assert recall(fresh, screening.primary_names(bundled), "one error") < 9_500


def test_planted_words_left_over_do_not_count(fresh: ListScreener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "_missing_percent", lambda _: 0)
    assert screening.false_positives_bp(fresh, screening.ordinary_names(EACH_CULTURE)) > 100


def test_planted_order_matters(
    bundled: SanctionsList, fresh: ListScreener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_order(query: index.Query, name: index.IndexedName) -> score._Alignment:
        taken = score._Alignment([True] * len(query.words), [True] * len(name.words))
        for pair in score._pairs(query, name):
            if pair.i == pair.j and taken.free_party[pair.i]:
                taken.take(pair, name.weights[pair.j])
        return taken

    monkeypatch.setattr(score, "_align", in_order)
    assert recall(fresh, screening.primary_names(bundled), "given name first") < 9_000
