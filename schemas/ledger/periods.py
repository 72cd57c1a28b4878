"""Contracts of periods: up to when the books are closed, and what may still be entered there."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import StringConstraints

from schemas.common.base import Command, Event, Id, Micros, Text
from schemas.ledger.transactions import TransactionInput

Closing = Literal["soft", "hard"]
Reason = Annotated[Text, StringConstraints(min_length=1)]


class ClosePeriod(Command):
    """Let nothing more count before ``until``, which must not lie in the future.

    After a soft close only adjusting entries may, after a hard close nothing at all, for good.
    """

    TYPE: ClassVar[str] = "ledger.close-period.v1"

    ledger_id: Id
    until: Micros
    closing: Closing
    note: Text = ""


class ReopenPeriod(Command):
    """Take a soft close back as far as ``until``. What is hard-closed stays closed."""

    TYPE: ClassVar[str] = "ledger.reopen-period.v1"

    ledger_id: Id
    until: Micros
    note: Text = ""


class PostAdjustment(Command):
    """Post a transaction into a soft-closed period. Its ``effective_at`` must be given, and the reason be told."""

    TYPE: ClassVar[str] = "ledger.post-adjustment.v1"

    ledger_id: Id
    transaction: TransactionInput
    reason: Reason


class PeriodClosed(Event):
    """Stream: the ledger. Afterwards nothing but adjustments counts before ``soft_until``, nothing before ``hard_until``."""

    TYPE: ClassVar[str] = "ledger.period-closed.v1"

    ledger_id: str
    closing: Closing
    soft_until: int
    hard_until: int
    note: str = ""


class PeriodReopened(Event):
    """Stream: the ledger. What lies from ``soft_until`` on is open again."""

    TYPE: ClassVar[str] = "ledger.period-reopened.v1"

    ledger_id: str
    soft_until: int
    hard_until: int
    note: str = ""


class AdjustmentPosted(Event):
    """Stream: the adjustment. ``transaction_id`` has its legs."""

    TYPE: ClassVar[str] = "ledger.adjustment-posted.v1"

    ledger_id: str
    adjustment_id: str
    transaction_id: str
    effective_at: int
    reason: str
