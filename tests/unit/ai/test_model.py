"""The artefact, the ONNX scorer, the rules and the breaker: what is refused, and what decides then."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from services.ai import train_baseline as training
from services.ai.artefact import CARD_FILE, METADATA_KEY, ModelError, read_card
from services.ai.breaker import CALLS_OPEN, FAILURES, Breaker
from services.ai.features import FEATURES
from services.ai.onnx_scorer import MAX_REASONS, OnnxScorer
from services.ai.port import ModelId, Score
from services.ai.replay import known_models, replay, rescore
from services.ai.rules import MODEL as RULES
from services.ai.rules import RuleScorer
from tests.kit.risk import PlantedScorer
from tests.unit.ai.payments import MODEL, payment, scene, scored

SCORER = OnnxScorer(MODEL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


def change_card(folder: Path, **values: Any) -> None:
    card = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps({**card, **values}))


def change_model(folder: Path, *, keep_hash: bool = False, **metadata: Any) -> None:
    """Write other metadata into the model; the card follows unless ``keep_hash``."""
    model = onnx.load(folder / "model.onnx")
    inputs = json.loads(next(p.value for p in model.metadata_props if p.key == METADATA_KEY)) | metadata
    helper.set_model_props(model, {METADATA_KEY: json.dumps(inputs)})
    data = model.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    if not keep_hash:
        change_card(folder, sha256=hashlib.sha256(data).hexdigest(), inputs=inputs)


def tables() -> tuple[dict[str, np.ndarray[Any, Any]], list[str]]:
    model = onnx.load(MODEL / "model.onnx")
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}, list(training.CUTS)


def test_one_changed_byte_is_refused(folder: Path) -> None:
    path = folder / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="its SHA-256 is"):
        OnnxScorer(folder)


def test_a_threshold_or_an_input_that_only_the_card_has_is_refused(folder: Path) -> None:
    inputs = read_card(folder).inputs.model_dump()
    change_card(folder, inputs={**inputs, "threshold_bp": 9_000})
    with pytest.raises(ModelError, match="not those of its card"):
        OnnxScorer(folder)


def test_a_feature_that_there_is_not_is_refused(folder: Path) -> None:
    names = read_card(folder).inputs.features
    change_model(folder, features=["shoe_size", *names[1:]])
    with pytest.raises(ModelError, match="features that there are not: shoe_size"):
        OnnxScorer(folder)


def test_a_feature_twice_or_one_too_few_is_refused(folder: Path) -> None:
    names = read_card(folder).inputs.features
    change_model(folder, features=[names[1], *names[1:]])
    with pytest.raises(ModelError, match="twice"):
        OnnxScorer(folder)
    change_model(folder, features=names[1:])
    with pytest.raises(ModelError, match="inputs and outputs"):
        OnnxScorer(folder)


@pytest.mark.parametrize("what", ["absent", "no card", "not json", "not a model"])
def test_what_is_no_model_is_refused(folder: Path, what: str) -> None:
    if what == "absent":
        (folder / "model.onnx").unlink()
    elif what == "no card":
        (folder / CARD_FILE).unlink()
    elif what == "not json":
        (folder / CARD_FILE).write_text("{")
    else:
        (folder / "model.onnx").write_bytes(b"text")
        change_card(folder, sha256=hashlib.sha256(b"text").hexdigest())
    with pytest.raises(ModelError):
        OnnxScorer(folder)


def test_the_card_makes_no_claim_and_names_units() -> None:
    card = read_card(MODEL)
    assert "No quality on real payments is claimed" in card.limits
    assert card.units == {name: FEATURES[name] for name in card.inputs.features}
    assert card.measured["good_denied_bp"] <= training.FALSE_ALARMS_BP


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(training.CUTS)), st.integers(0, 2**62)))
def test_the_graph_is_the_scorecard_in_plain_integers(features: dict[str, int]) -> None:
    constant, names = tables()
    parts = {
        name: sum(
            int(p)
            for c, p in zip(constant["cuts"][0][i], constant["points"][0][i], strict=True)
            if features.get(name, training.MISSING) >= c
        )
        for i, name in enumerate(names)
    }
    log_odds = max(
        -training.FURTHEST_BP, min(training.FURTHEST_BP, sum(parts.values()) + int(constant["base"][0]))
    )
    expected = int(constant["sigmoid"][(log_odds + training.FURTHEST_BP) // training.STEP_BP])
    score = SCORER.score(features)
    assert score.score_bp == expected
    ranked = sorted(((n, p) for n, p in parts.items() if p), key=lambda item: (-item[1], item[0]))
    assert score.reasons == tuple(ranked[:MAX_REASONS])


def test_no_feature_that_grows_lowers_the_score() -> None:
    draw = random.Random(1)
    for _ in range(200):
        features = {name: draw.choice([0, *cuts]) for name, cuts in training.CUTS.items()}
        name = draw.choice(sorted(features))
        assert SCORER.score({**features, name: 2**61}).score_bp >= SCORER.score(features).score_bp
        del features[name]
        assert SCORER.score(features).score_bp >= 1


def test_an_absent_feature_adds_nothing() -> None:
    assert SCORER.score({}) == SCORER.score(dict.fromkeys(training.CUTS, 0))


class Failing:
    """Fails as long as it is told to."""

    def __init__(self) -> None:
        self.broken = True

    def score(self, features: Mapping[str, int]) -> Score:
        if self.broken:
            raise RuntimeError("out of memory")
        return Score(ModelId("healed", "1", "2" * 64, 5_000), 7, ())


def test_a_model_that_can_not_be_loaded_leaves_it_to_the_rules(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    said: list[str | None] = []
    event = scored(scene(Breaker(lambda: OnnxScorer(folder), said.append)), payment(1))
    assert (event.model, event.model_sha256, event.decision) == ("rules", RULES.sha256, "allow")
    assert said[0] is not None
    assert "the rules decide" in said[0]


def test_the_breaker_opens_after_failures_and_tries_again() -> None:
    model, said = Failing(), list[str | None]()
    breaker = Breaker(lambda: model, said.append)
    for _ in range(FAILURES):
        assert not breaker.open
        assert breaker.score({}).model == RULES
    assert breaker.open
    model.broken = False
    names = [breaker.score({}).model.name for _ in range(CALLS_OPEN + 1)]
    assert names[: CALLS_OPEN - 1] == ["rules"] * (CALLS_OPEN - 1)
    assert names[CALLS_OPEN - 1 :] == ["healed", "healed"]
    assert [bool(each) for each in said] == [False, True, False]


def test_one_failure_does_not_open_it() -> None:
    model = Failing()
    breaker = Breaker(lambda: model)
    breaker.score({})
    model.broken = False
    assert breaker.score({}).model.name == "healed"
    model.broken = True
    for _ in range(FAILURES - 1):
        breaker.score({})
    assert not breaker.open


@pytest.mark.parametrize(
    ("features", "denied"),
    [
        ({}, False),
        ({"payee_is_new": 1, "device_is_new": 1, "is_night": 1}, False),
        ({"payer_count_1m": 100}, False),
        ({"amount_to_mean_bp": 500_000}, True),
        ({"amount_to_mean_bp": 200_000, "payee_is_new": 1, "device_is_new": 1}, True),
        ({"device_count_1m": 15}, True),
        ({"device_payers_24h": 6}, True),
        ({"payer_burst_bp": 250_000}, True),
    ],
)
def test_the_rules(features: dict[str, int], denied: bool) -> None:
    assert RuleScorer().score(features).denied is denied


def history(count: int = 60) -> list[Any]:
    s, draw = scene(), random.Random(3)
    return [
        scored(
            s,
            payment(n, f"p{n % 4}", f"b{draw.randrange(9)}", draw.choice([900, 5_000, 400_000]), "d"),
            40_000_000,
        )
        for n in range(count)
    ]


def test_history_is_scored_again_to_the_bit() -> None:
    events = history()
    assert {event.decision for event in events} == {"allow", "deny"}
    report = replay(events, known_models())
    assert report.proven
    assert (report.decisions, report.identical, report.different) == (60, 60, 0)


@pytest.mark.parametrize("change", ["score_bp", "decision", "features", "reasons"])
def test_a_changed_record_is_noticed(change: str) -> None:
    event = next(e for e in history() if e.decision == "deny")
    other: Any = {
        "score_bp": event.score_bp - 1,
        "decision": "allow",
        "features": {**event.features, "device_count_1h": 0, "device_count_1m": 0, "device_payers_24h": 0},
        "reasons": event.reasons[1:],
    }[change]
    models = known_models()
    assert rescore(event, models) == "identical"
    assert rescore(event.model_copy(update={change: other}), models) == "different"


def test_a_model_that_is_gone_is_named_not_guessed() -> None:
    event = history(1)[0].model_copy(update={"model_sha256": "f" * 64})
    report = replay([event], known_models())
    assert not report.proven
    assert report.unknown_models == {"f" * 64: 1}


def test_what_another_model_would_have_done() -> None:
    events = history()
    report = replay(events, known_models(), challenger=PlantedScorer(9_000))
    allowed = sum(e.decision == "allow" for e in events)
    assert report.flipped == {"allow->deny": allowed}
    assert len(report.flips) == allowed
    assert report.proven  # a challenger changes nothing about the record
