"""A model with a way out: when it can not be loaded or fails again and again, the rules decide, and the event says so.

The breaker counts calls and not seconds, so it needs no clock: after :data:`FAILURES` failures in a row the rules decide the next
:data:`CALLS_OPEN` payments, then one call tries the model again (loading it anew).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import structlog

from services.ai.artefact import ModelError
from services.ai.port import Score, Scorer
from services.ai.rules import RuleScorer

log = structlog.get_logger(__name__)
FAILURES: Final = 3
CALLS_OPEN: Final = 1_000


class Breaker:
    """The :class:`~services.ai.port.Scorer` of the running service.

    ``load`` gives the model, or raises :class:`~services.ai.artefact.ModelError`. ``on_change`` is told what is wrong, or
    ``None`` when the model decides (again).
    """

    def __init__(
        self, load: Callable[[], Scorer], on_change: Callable[[str | None], None] = lambda _: None
    ) -> None:
        self._load = load
        self._on_change = on_change
        self._rules = RuleScorer()
        self._failures = 0
        self._open_for = 0
        self._model = self._try_load()

    @property
    def open(self) -> bool:
        """Whether the rules decide now."""
        return self._open_for > 0

    def score(self, features: Mapping[str, int]) -> Score:
        """Score by the model, or by the rules while the breaker is open and for the call that failed."""
        if self._open_for > 0:
            self._open_for -= 1
            if self._open_for > 0:
                return self._rules.score(features)
            self._model = self._try_load()
        if self._model is not None:
            try:
                score = self._model.score(features)
            except Exception as error:  # noqa: BLE001 - whatever a model raises, the payment is decided
                self._failed(error)
            else:
                if self._failures:
                    self._failures = 0
                    self._on_change(None)
                return score
        return self._rules.score(features)

    def _try_load(self) -> Scorer | None:
        try:
            model = self._load()
        except ModelError as error:
            self._opened(error)
            return None
        self._failures = 0
        self._on_change(None)
        return model

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        log.error("fraud model failed", error=repr(error), failures=self._failures)
        if self._failures >= FAILURES:
            self._opened(error)

    def _opened(self, error: Exception) -> None:
        self._open_for = CALLS_OPEN
        log.error("fraud model is away; the rules decide", error=repr(error), calls=CALLS_OPEN)
        self._on_change(f"the rules decide instead of the model: {error}")
