"""Events of the payment saga. Stream: the saga; its id is the payment's."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from schemas.common.base import Event


class SagaStepped(Event):
    """The saga moved: what it saw and the state it is in now. Commands it sends follow as ``command-issued``."""

    TYPE: ClassVar[str] = "payment-saga.saga-stepped.v1"

    saga_id: str
    observed: str
    state: dict[str, Any]
    deadline_us: int | None = None


class SagaEnded(Event):
    """Terminal. ``token`` has the last position of every store the saga touched: ``{"ledger/3": 1200}``."""

    TYPE: ClassVar[str] = "payment-saga.saga-ended.v1"

    saga_id: str
    outcome: str
    reason: str | None = None
    token: dict[str, int] = Field(default_factory=dict)


EVENTS: dict[str, type[Event]] = {e.TYPE: e for e in (SagaStepped, SagaEnded)}
