"""The rule set that decides when no model can: few rules, on the safe side, the same for everybody.

It denies what any reviewer would stop and lets ordinary payments pass. Its hash is over the rules themselves, so an
event that names it can be scored again like any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from services.ai.onnx_scorer import MAX_REASONS
from services.ai.port import ModelId, Score

NAME: Final = "rules"
VERSION: Final = "1"
THRESHOLD_BP: Final = 5_000
BASE_BP: Final = 50
#: Feature, the value from which on the rule holds, points in bp. Of one feature only the highest rule counts.
RULES: Final[tuple[tuple[str, int, int], ...]] = (
    ("amount_to_mean_bp", 100_000, 2_000),
    ("amount_to_mean_bp", 200_000, 3_500),
    ("amount_to_mean_bp", 500_000, 5_000),
    ("amount_tenant_deviation_centi", 300, 2_000),
    ("amount_tenant_deviation_centi", 450, 5_000),
    ("payer_burst_bp", 100_000, 2_500),
    ("payer_burst_bp", 250_000, 5_000),
    ("payer_count_1m", 60, 2_000),
    ("device_count_1m", 8, 2_000),
    ("device_count_1m", 15, 5_000),
    ("device_count_1h", 20, 2_500),
    ("device_count_1h", 40, 5_000),
    ("device_payers_24h", 3, 2_500),
    ("device_payers_24h", 6, 5_000),
    ("device_is_new", 1, 1_000),
    ("payee_is_new", 1, 500),
    ("is_night", 1, 300),
)
MODEL: Final = ModelId(
    NAME,
    VERSION,
    hashlib.sha256(json.dumps([THRESHOLD_BP, BASE_BP, RULES], separators=(",", ":")).encode()).hexdigest(),
    THRESHOLD_BP,
)


class RuleScorer:
    """The :class:`~services.ai.port.Scorer` of last resort. Its reasons are points, not log-odds."""

    model: Final = MODEL

    def score(self, features: Mapping[str, int]) -> Score:
        """Sum of the points of the rules that hold; an absent feature makes no rule hold."""
        points: dict[str, int] = {}
        for name, least, bp in RULES:
            value = features.get(name)
            if value is not None and value >= least:
                points[name] = max(bp, points.get(name, 0))
        reasons = sorted(points.items(), key=lambda item: (-item[1], item[0]))
        score_bp = min(9_999, BASE_BP + sum(points.values()))
        return Score(MODEL, score_bp, tuple(reasons[:MAX_REASONS]))
