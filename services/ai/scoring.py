"""From features to a score: an ONNX model with its card, or a conservative rule set when it can not be loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from services.ai.features import FEATURES
from services.ai.port import Score, Scorer

log = structlog.get_logger(__name__)
BUILT_IN: Final = Path(__file__).parent / "models" / "fraud-baseline"
MAX_REASONS: Final = 5
#: The rules' threshold, and what each adds.
RULES_THRESHOLD_BP: Final = 5_000


class ModelError(Exception):
    """A model that must not be used: absent, changed, or of other features."""


class OnnxScorer:
    """A logistic model over ``log(1 + x)``, run by ONNX Runtime on one thread."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        try:
            card: dict[str, Any] = json.loads((folder / "model.json").read_text())
            data = (folder / "model.onnx").read_bytes()
        except (OSError, ValueError) as error:
            raise ModelError(f"no model in {folder.name}: {error}") from error
        digest = sha256(data).hexdigest()
        if digest != card["sha256"]:
            raise ModelError(
                f"{folder.name}: the model's SHA-256 is {digest}, its card says {card['sha256']}"
            )
        if list(card["features"]) != list(FEATURES):
            raise ModelError(f"{folder.name}: the model was made for other features")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self._names = list(FEATURES)
        self._weights = np.array(card["weights"], dtype=np.float64)
        self._means = np.array(card["means"], dtype=np.float64)
        self.model: str = card["name"]
        self.version: str = card["version"]
        self.sha256 = digest
        self.threshold_bp: int = card["threshold_bp"]

    def score(self, features: Mapping[str, int]) -> Score:
        """Probability from the ONNX graph; contributions are exact, since the model is linear in ``log(1 + x)``."""
        values = np.array([[features[name] for name in self._names]], dtype=np.float32)
        probability = float(self._session.run(None, {"features": values})[0][0][0])
        parts = self._weights * (np.log1p(values[0].astype(np.float64)) - self._means)
        order = np.argsort(-np.abs(parts), kind="stable")[:MAX_REASONS]
        reasons = [(self._names[i], round(float(parts[i]) * 10_000)) for i in order]
        return Score(min(10_000, max(0, round(probability * 10_000))), reasons)


class RuleScorer:
    """Conservative rules for when no model can be used. The decision names them: ``rules``."""

    model = "rules"
    version = "1"
    sha256 = sha256(b"nexafi/rules/1").hexdigest()
    threshold_bp = RULES_THRESHOLD_BP

    def score(self, features: Mapping[str, int]) -> Score:
        """The sum of what each rule adds, at most 10000."""
        added = {
            "payer_count_1m": 4_000 * (features["payer_count_1m"] >= 5),
            "payer_count_1h": 2_000 * (features["payer_count_1h"] >= 20),
            "amount_ratio_bp": 4_000 * (features["amount_ratio_bp"] >= 200_000),
            "device_payers_24h": 3_000 * (features["device_payers_24h"] >= 4),
            "first_beneficiary": 500 * features["first_beneficiary"],
        }
        reasons = sorted(((k, v) for k, v in added.items() if v), key=lambda r: (-r[1], r[0]))
        return Score(min(10_000, sum(added.values())), reasons)


def load_scorer(folder: Path | None = None) -> Scorer:
    """The model in ``folder`` (the built-in one by default); the rules when it can not be used."""
    try:
        return OnnxScorer(folder or BUILT_IN)
    except ModelError as error:
        log.error("no usable model; the conservative rules decide", error=str(error))
        return RuleScorer()
