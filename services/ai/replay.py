"""Recorded decisions, scored again: to show that they come out as they did, and what another model would have decided.

Everything needed is in the events: the feature snapshot, and the name and hash of the model. No state is rebuilt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from schemas.ai.events import PaymentScored
from services.ai.artefact import BUNDLED, CARD_FILE
from services.ai.onnx_scorer import OnnxScorer
from services.ai.port import Scorer
from services.ai.rules import MODEL as RULES
from services.ai.rules import RuleScorer

#: Single decisions named in a report; the counts are over all.
MAX_NAMED: Final = 100

Verdict = Literal["identical", "different", "model-unknown"]


class Difference(NamedTuple):
    """A decision that came out otherwise."""

    score_id: str
    payment_id: str
    recorded_bp: int
    again_bp: int
    recorded: str
    again: str


@dataclass(slots=True)
class ReplayReport:
    """What scoring again showed. ``flipped`` counts changed decisions by ``"allow->deny"`` and ``"deny->allow"``."""

    decisions: int = 0
    identical: int = 0
    different: int = 0
    unknown_models: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    challenger: str | None = None
    flipped: dict[str, int] = field(default_factory=dict)
    flips: list[Difference] = field(default_factory=list)
    moved_bp: int = 0

    @property
    def proven(self) -> bool:
        """Whether every decision was scored again and came out the same to the bit."""
        return self.identical == self.decisions


def known_models(folders: Sequence[Path] = ()) -> dict[str, Scorer]:
    """Models by hash: the rules, those that come with the product, and those in (or below) ``folders``."""
    found: dict[str, Scorer] = {RULES.sha256: RuleScorer()}
    for folder in (BUNDLED.parent, *folders):
        for card in sorted(folder.rglob(CARD_FILE)):
            scorer = OnnxScorer(card.parent)
            found[scorer.model.sha256] = scorer
    return found


def rescore(event: PaymentScored, models: Mapping[str, Scorer]) -> Verdict:
    """Score a recorded decision with its own model: score, decision and reasons must be what they were."""
    scorer = models.get(event.model_sha256)
    if scorer is None:
        return "model-unknown"
    again = scorer.score(event.features)
    recorded = tuple((reason.code, reason.contribution_bp) for reason in event.reasons)
    decision = "deny" if again.score_bp >= event.threshold_bp else "allow"
    same = (again.score_bp, decision, again.reasons) == (event.score_bp, event.decision, recorded)
    return "identical" if same else "different"


def replay(
    events: Iterable[PaymentScored], models: Mapping[str, Scorer], challenger: Scorer | None = None
) -> ReplayReport:
    """Score a history again; with a ``challenger``, also say which decisions it would have made otherwise."""
    report = ReplayReport()
    for event in events:
        report.decisions += 1
        verdict = rescore(event, models)
        if verdict == "identical":
            report.identical += 1
        elif verdict == "different":
            report.different += 1
            again = models[event.model_sha256].score(event.features)
            _name(report.differences, event, again.score_bp, "deny" if again.denied else "allow")
        else:
            known = report.unknown_models.get(event.model_sha256, 0)
            report.unknown_models[event.model_sha256] = known + 1
        if challenger is not None:
            _challenge(report, event, challenger)
    return report


def _challenge(report: ReplayReport, event: PaymentScored, challenger: Scorer) -> None:
    score = challenger.score(event.features)
    report.challenger = score.model.sha256
    report.moved_bp += abs(score.score_bp - event.score_bp)
    decision = "deny" if score.denied else "allow"
    if decision != event.decision:
        flip = f"{event.decision}->{decision}"
        report.flipped[flip] = report.flipped.get(flip, 0) + 1
        _name(report.flips, event, score.score_bp, decision)


def _name(named: list[Difference], event: PaymentScored, again_bp: int, decision: str) -> None:
    if len(named) < MAX_NAMED:
        named.append(
            Difference(event.score_id, event.payment_id, event.score_bp, again_bp, event.decision, decision)
        )
