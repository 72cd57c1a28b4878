"""The page about the ledger says what the code does."""

from __future__ import annotations

from services.ledger.reasons import REASONS
from tests.kit.source import ROOT

PAGE = ROOT / "docs" / "concepts" / "ledger.md"


def table(reasons: dict[str, str]) -> str:
    """The reasons as rows of a Markdown table."""
    return "".join(f"| `{reason}` | {meaning} |\n" for reason, meaning in reasons.items())


def test_the_page_has_the_table_of_reasons() -> None:
    _, _, after = PAGE.read_text(encoding="utf-8").partition("| reason | refused because |\n|---|---|\n")
    assert after == table(REASONS)


def test_another_meaning_would_be_noticed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert table({**REASONS, "code-taken": "Something else."}) not in page
    assert table({**REASONS, "new-reason": "New."}) not in page


def test_the_shelf_lists_the_page() -> None:
    assert "(ledger.md)" in (PAGE.parent / "README.md").read_text(encoding="utf-8")
