"""Contracts of transaction templates: how money is to flow, written down once and applied many times.

A template is data, not a program: a list of flows, each of which takes an amount from sources in order and gives it to
destinations by shares. It has no loop and no condition, so it always ends, and the same balances and variables always
give the same entries.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field, StringConstraints

from schemas.common.base import MAX_AMOUNT, Code, Command, Contract, Event, Id, Metadata, Micros, Text

MAX_FLOWS: Final = 10
MAX_ENDS: Final = 20
MAX_VARIABLES: Final = 32
#: Name of a variable: ``price``, ``seller``.
Variable = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z][a-z0-9_]*$")]
Quantity = Annotated[int, Field(strict=True, ge=0, le=MAX_AMOUNT)]
SharePart = Annotated[int, Field(strict=True, gt=0, lt=10**18)]


class AccountRef(Contract):
    """An account: by its ``code`` in the ledger, or by a ``variable`` that is given an id when the template is applied."""

    code: Code | None = None
    variable: Variable | None = None


class Share(Contract):
    """``numerator / denominator`` of an amount, at most all of it; what does not divide stays with the remainder."""

    numerator: SharePart
    denominator: SharePart


class AmountRef(Contract):
    """An amount in minor units: ``fixed``, of a ``variable``, or all that is available in ``balance_of``; or a share of it."""

    fixed: Quantity | None = None
    variable: Variable | None = None
    balance_of: AccountRef | None = None
    share: Share | None = None


class Source(Contract):
    """An account that gives what it has, ``at_most`` so much, and keeps ``keep``.

    An account that grows on the credit side gives what is available. One that grows on the debit side (cash that
    comes in), or ``unbounded``, gives whatever is asked of it; its floor still holds.
    """

    account: AccountRef
    at_most: AmountRef | None = None
    keep: AmountRef | None = None
    unbounded: bool = False


class Destination(Contract):
    """What takes a ``share`` of the flow, or ``at_most`` an amount of it; with neither it takes the remainder.

    Without an ``account`` that part is kept: it is not taken from the sources at all.
    """

    account: AccountRef | None = None
    share: Share | None = None
    at_most: AmountRef | None = None


class Flow(Contract):
    """``amount`` from ``sources``, each giving what it can before the next is asked, to ``destinations``.

    Shares are of the whole flow and rounded down; then amounts are given in order; the last destination takes the
    remainder. If the sources have less, the flow is refused, or with ``partial`` is as large as what they have.
    """

    amount: AmountRef
    sources: Annotated[list[Source], Field(min_length=1, max_length=MAX_ENDS)]
    destinations: Annotated[list[Destination], Field(min_length=1, max_length=MAX_ENDS)]
    partial: bool = False


class Template(Contract):
    """Flows in order; each sees what those before it have moved. Variables are declared, so that a slip is found early."""

    accounts: Annotated[list[Variable], Field(max_length=MAX_VARIABLES)] = Field(default_factory=list)
    amounts: Annotated[list[Variable], Field(max_length=MAX_VARIABLES)] = Field(default_factory=list)
    flows: Annotated[list[Flow], Field(min_length=1, max_length=MAX_FLOWS)]


class DefineTemplate(Command):
    """Give a ledger a template, or a new version of one. Transactions made with older versions stay as they are."""

    TYPE: ClassVar[str] = "ledger.define-template.v1"

    ledger_id: Id
    name: Code
    template: Template


class ApplyTemplate(Command):
    """Post one transaction made by a template. ``version`` refuses another version than the one that was meant.

    ``dry_run`` decides all the same and tells the entries, and nothing happens. The transaction's metadata has
    ``template``: name and version.
    """

    TYPE: ClassVar[str] = "ledger.apply-template.v1"

    ledger_id: Id
    name: Code
    version: Annotated[int, Field(strict=True, ge=1)] | None = None
    accounts: Annotated[dict[Variable, Id], Field(max_length=MAX_VARIABLES)] = Field(default_factory=dict)
    amounts: Annotated[dict[Variable, Quantity], Field(max_length=MAX_VARIABLES)] = Field(
        default_factory=dict
    )
    dry_run: bool = False
    effective_at: Micros | None = None
    reference: Code | None = None
    description: Text = ""
    metadata: Metadata = Field(default_factory=dict)


class TemplateDefined(Event):
    """Stream: the definition. ``version`` counts the definitions of a name in a ledger from 1."""

    TYPE: ClassVar[str] = "ledger.template-defined.v1"

    ledger_id: str
    template_id: str
    name: str
    version: int
    template: Template
