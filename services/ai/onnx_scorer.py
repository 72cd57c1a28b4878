"""A model run by ONNX Runtime. Everything goes in and comes out as 64-bit integers, so a score has no rounding to differ in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from services.ai.artefact import ModelError, check_inputs, read_card, read_model
from services.ai.port import ModelId, Score

MAX_REASONS: Final = 5
INPUT: Final = "features"
OUTPUTS: Final = ("score_bp", "contributions_bp")
CERTAIN_BP: Final = 9_999


class OnnxScorer:
    """The :class:`~services.ai.port.Scorer` over a model file.

    The graph takes ``features`` int64 ``[n, f]`` and gives ``score_bp`` int64 ``[n]`` and ``contributions_bp`` int64 ``[n, f]``, the
    exact part of each feature in the log-odds.
    """

    def __init__(self, folder: Path) -> None:
        self.card = read_card(folder)
        data = read_model(folder, self.card)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        file = self.card.file
        try:
            self._session = onnxruntime.InferenceSession(
                data, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ModelError(f"{folder / file}: not a model that can be run: {error}") from error
        check_inputs(self.card, self._session.get_modelmeta().custom_metadata_map, file)
        self._check_shapes(file)
        inputs = self.card.inputs
        self._features, self._missing = tuple(inputs.features), inputs.missing
        self.model = ModelId(self.card.name, self.card.version, self.card.sha256, inputs.threshold_bp)

    def score(self, features: Mapping[str, int]) -> Score:
        """Score one snapshot (about 20 us)."""
        get, missing = features.get, self._missing
        row = np.array([[get(name, missing) for name in self._features]], dtype=np.int64)
        score, contributions = self._session.run(OUTPUTS, {INPUT: row})
        parts: list[int] = contributions[0].tolist()
        told = sorted(
            (-abs(part), name, part) for name, part in zip(self._features, parts, strict=True) if part
        )
        score_bp = min(CERTAIN_BP, max(1, int(score[0])))
        return Score(self.model, score_bp, tuple((name, part) for _, name, part in told[:MAX_REASONS]))

    def _check_shapes(self, file: str) -> None:
        wanted: dict[str, tuple[str, list[Any]]] = {
            INPUT: ("tensor(int64)", [len(self.card.inputs.features)]),
            OUTPUTS[0]: ("tensor(int64)", []),
            OUTPUTS[1]: ("tensor(int64)", [len(self.card.inputs.features)]),
        }
        ports = [*self._session.get_inputs(), *self._session.get_outputs()]
        found = {port.name: (port.type, list(port.shape[1:])) for port in ports}
        if found != wanted:
            raise ModelError(f"{file}: its inputs and outputs are {found}, wanted {wanted}")
