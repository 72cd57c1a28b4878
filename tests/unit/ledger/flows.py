"""Templates for tests: the four of the documentation, and short ways to write one."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from schemas.ledger.templates import ApplyTemplate, DefineTemplate, Template
from tests.kit.scenario import Outcome
from tests.kit.source import ROOT
from tests.unit.ledger.book import Book

HOWTO: Final = ROOT / "docs" / "how-to" / "transaction-templates.md"
ACCOUNTS: Final = ("seller", "commission", "tax", "escrow", "reserve", "platform", "rewards", "cashback-cost")


def documented() -> dict[str, dict[str, Any]]:
    """Name -> template, as the page prints them: fenced JSON after a heading with the name in backticks."""
    page = HOWTO.read_text(encoding="utf-8")
    found = re.findall(r"^## `([a-z-]+)`.*?```json\n(.*?)```", page, flags=re.DOTALL | re.MULTILINE)
    return {name: json.loads(text) for name, text in found}


class FlowBook(Book):
    """Alice has 1,000.00; there are accounts for every party of the documented templates."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for code in ACCOUNTS:
            self.open(code, floor=0)
        self.post("bank", "alice", 100_000).accepted()

    def define(self, name: str, template: dict[str, Any]) -> Outcome:
        """Define a template from its JSON."""
        command = DefineTemplate(ledger_id=self.ledger, name=name, template=Template.model_validate(template))
        return self.when(command)

    def apply(self, name: str, amounts: dict[str, int], **more: Any) -> Outcome:
        """Apply it; accounts that a variable stands for are named by their codes."""
        codes = more.pop("accounts", {})
        accounts = {variable: self.ids[code] for variable, code in codes.items()}
        command = ApplyTemplate(ledger_id=self.ledger, name=name, amounts=amounts, accounts=accounts, **more)
        return self.when(command)

    def posted(self, *codes: str) -> list[int]:
        """Posted balances."""
        return [self[code].posted for code in codes]


def flow(amount: dict[str, Any], sources: list[Any], destinations: list[Any], **more: Any) -> dict[str, Any]:
    """A flow; a source or destination that is a text is that account and nothing more."""
    return {
        "amount": amount,
        "sources": [_end(each) for each in sources],
        "destinations": [_end(each) for each in destinations],
        **more,
    }


def _end(each: Any) -> dict[str, Any]:
    if isinstance(each, str):
        return {"account": {"code": each}}
    found: dict[str, Any] = each
    return found
