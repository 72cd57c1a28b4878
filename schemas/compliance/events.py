"""Events of the compliance service. Streams: a screening, a case."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schemas.common.base import Contract, Event


class MatchFeature(Contract):
    """One part of an explained score, in basis points (0..10000)."""

    name: str
    value_bp: int
    weight_bp: int


class ScreeningHit(Contract):
    """A list entry that a subject resembles. The subject is named by role; the entry is public list data."""

    role: Literal["payer", "payee"]
    list_id: str
    entry_id: str
    entry_name: str
    matched_name: str
    program: str = ""
    score_bp: int
    features: list[MatchFeature] = Field(default_factory=list)


class ScreeningCompleted(Event):
    """Stream: the screening. ``list_version`` is the SHA-256 over the loaded list; ``matcher`` names the algorithm's version."""

    TYPE: ClassVar[str] = "compliance.screening-completed.v1"

    screening_id: str
    payment_id: str
    outcome: Literal["clear", "hit"]
    list_version: str
    matcher: str
    threshold_bp: int
    hits: list[ScreeningHit] = Field(default_factory=list)
    case_id: str | None = None


class CaseOpened(Event):
    """Stream: the case. The payment waits for an officer."""

    TYPE: ClassVar[str] = "compliance.case-opened.v1"

    case_id: str
    screening_id: str
    payment_id: str
    hits: list[ScreeningHit]


class CaseDecided(Event):
    """Stream: the case. Terminal. The officer is the event's actor."""

    TYPE: ClassVar[str] = "compliance.case-decided.v1"

    case_id: str
    payment_id: str
    decision: Literal["release", "block"]
    note: str = ""
    reason: str | None = None


class CaseWithdrawn(Event):
    """Stream: the case. Terminal, without a decision."""

    TYPE: ClassVar[str] = "compliance.case-withdrawn.v1"

    case_id: str
    payment_id: str
    reason: str


EVENTS: dict[str, type[Event]] = {
    e.TYPE: e for e in (ScreeningCompleted, CaseOpened, CaseDecided, CaseWithdrawn)
}
