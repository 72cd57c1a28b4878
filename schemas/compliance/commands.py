"""Commands of the compliance service. The shard is the payment's shard modulo the service's own count."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.common.base import Code, Command, Contract, Id, Text


class ScreeningSubject(Contract):
    """A party to screen. ``country`` is ISO 3166-1 alpha-2."""

    role: Literal["payer", "payee"]
    name: Annotated[str, Field(min_length=1, max_length=140)]
    country: str | None = None


class ScreenPayment(Command):
    """Screen both parties of a payment against the current lists."""

    TYPE: ClassVar[str] = "compliance.screen-payment.v1"

    payment_id: Id
    subjects: Annotated[list[ScreeningSubject], Field(min_length=1, max_length=8)]


class DecideCase(Command):
    """An officer releases or blocks a payment parked in review."""

    TYPE: ClassVar[str] = "compliance.decide-case.v1"

    case_id: Id
    decision: Literal["release", "block"]
    note: Text = ""
    reason: Code | None = None


class WithdrawCase(Command):
    """The payment was cancelled or timed out while in review: the case closes without a decision."""

    TYPE: ClassVar[str] = "compliance.withdraw-case.v1"

    case_id: Id
    reason: Code


COMMANDS: dict[str, type[Command]] = {c.TYPE: c for c in (ScreenPayment, DecideCase, WithdrawCase)}
