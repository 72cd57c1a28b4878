"""Contracts of the chart of accounts: which accounts a ledger may have, of which type, and who may face whom."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from schemas.common.base import Command, Contract, Event, Id, Text
from schemas.ledger.terms import AccountType, ChartCode, ChartPattern, Side

MAX_NODES: Final = 500
MAX_FACINGS: Final = 200
ChartTemplate = Literal["wallet", "marketplace", "lending", "neobank"]


class ChartNode(Contract):
    """A place for accounts: the account with this code and all whose codes go on after it with ``:``.

    ``normal_side`` is that of the accounts; left out it follows from the type, given otherwise they are contra
    accounts (accumulated depreciation is an asset that grows on the credit side).
    """

    code: ChartCode
    type: AccountType
    name: Text = ""
    normal_side: Side | None = None


class Facing(Contract):
    """Accounts at or below ``debit`` may be debited where accounts at or below ``credit`` are credited."""

    debit: ChartPattern
    credit: ChartPattern


class AdoptChart(Command):
    """Give a ledger its chart, or another one: a template, nodes of your own, or both together.

    ``facings`` left out are the template's. With none at all every account may face every other; with any, only
    those that a facing allows.
    """

    TYPE: ClassVar[str] = "ledger.adopt-chart.v1"

    ledger_id: Id
    template: ChartTemplate | None = None
    nodes: Annotated[list[ChartNode], Field(max_length=MAX_NODES)] = Field(default_factory=list)
    facings: Annotated[list[Facing], Field(max_length=MAX_FACINGS)] | None = None


class AdoptedNode(Contract):
    """A node as it was adopted."""

    code: str
    type: AccountType
    name: str
    normal_side: Side


class AdoptedFacing(Contract):
    """Patterns of nodes whose accounts may face each other."""

    debit: str
    credit: str


class ChartAdopted(Event):
    """Stream: the ledger. The whole chart, sorted by code; ``revision`` counts the charts of a ledger from 1."""

    TYPE: ClassVar[str] = "ledger.chart-adopted.v1"

    ledger_id: str
    revision: int
    template: str | None = None
    nodes: list[AdoptedNode]
    facings: list[AdoptedFacing] = Field(default_factory=list)
