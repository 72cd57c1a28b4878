"""Charts to begin with. An adopted chart is written out in history, so a template may change between releases.

Codes name a place, not an account: under ``liabilities:wallets`` a customer's account is ``liabilities:wallets:7``.
Every template has ``equity:fx`` for the positions that conversions leave and ``expenses:rounding`` for what does not
divide. Its facings keep income from being taken out of expenses, and customers' money from becoming capital.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from schemas.ledger.chart import ChartNode, ChartTemplate, Facing
from schemas.ledger.terms import SEPARATOR, AccountType

_TYPES: Final[dict[str, AccountType]] = {
    "assets": "asset",
    "liabilities": "liability",
    "equity": "equity",
    "income": "income",
    "expenses": "expense",
}


@dataclass(frozen=True)
class Template:
    """Nodes and facings; ``about`` says for whom."""

    about: str
    nodes: tuple[ChartNode, ...]
    facings: tuple[Facing, ...]


def _nodes(names: Mapping[str, str]) -> tuple[ChartNode, ...]:
    return tuple(
        ChartNode(code=code, type=_TYPES[code.partition(SEPARATOR)[0]], name=name)
        for code, name in names.items()
    )


def _facings(*pairs: tuple[str, str]) -> tuple[Facing, ...]:
    return tuple(Facing(debit=debit, credit=credit) for debit, credit in pairs)


_BASE: Final = {
    "assets": "Assets",
    "assets:bank": "Cash at banks",
    "assets:settlement": "Money under way on rails",
    "liabilities": "Liabilities",
    "liabilities:suspense": "Money not yet attributed",
    "equity": "Equity",
    "equity:capital": "Paid-in capital",
    "equity:retained": "Retained earnings",
    "equity:fx": "Currency positions, the liquidity of conversions",
    "income": "Income",
    "income:fees": "Fees",
    "income:fx": "Gains on currencies",
    "expenses": "Expenses",
    "expenses:rails": "Costs of rails and banks",
    "expenses:losses": "Losses",
    "expenses:fx": "Losses on currencies",
    "expenses:rounding": "Rounding differences",
}
#: What every business does: money comes in and goes out, moves between those it is owed to, is earned and spent.
_BUSINESS: Final = (
    ("assets", "assets"),
    ("assets", "liabilities"),
    ("assets", "income"),
    ("assets", "equity"),
    ("liabilities", "assets"),
    ("liabilities", "liabilities"),
    ("liabilities", "income"),
    ("liabilities", "equity:fx"),
    ("equity", "assets"),
    ("equity", "equity"),
    ("equity:fx", "*"),
    ("income", "assets"),
    ("income", "liabilities"),
    ("income", "equity"),
    ("expenses", "assets"),
    ("expenses", "liabilities"),
    ("expenses", "equity:fx"),
    ("equity:retained", "expenses"),
)

TEMPLATES: Final[dict[ChartTemplate, Template]] = {
    "wallet": Template(
        "Stored value: customers hold balances and pay each other.",
        _nodes(
            _BASE
            | {
                "liabilities:wallets": "Customers' wallets",
                "liabilities:rewards": "Rewards promised and not yet paid",
                "expenses:rewards": "Rewards given",
            }
        ),
        _facings(*_BUSINESS),
    ),
    "marketplace": Template(
        "Buyers pay, sellers are paid out, the platform keeps a share.",
        _nodes(
            _BASE
            | {
                "assets:processors": "Receivable from card processors",
                "liabilities:sellers": "Payable to sellers",
                "liabilities:escrow": "Held until delivery",
                "liabilities:reserves": "Held back from sellers against disputes",
                "liabilities:taxes": "Taxes collected",
                "income:commission": "Commission",
                "expenses:refunds": "Refunds borne by the platform",
                "expenses:chargebacks": "Lost disputes",
            }
        ),
        _facings(*_BUSINESS),
    ),
    "lending": Template(
        "Loans given out of deposits or funds, with interest and loss provisions.",
        (
            *_nodes(
                _BASE
                | {
                    "assets:loans": "Principal outstanding",
                    "assets:interest": "Interest receivable",
                    "assets:fees": "Fees receivable",
                    "liabilities:borrowers": "Prepayments and disbursements to borrowers",
                    "liabilities:funders": "Payable to funders",
                    "income:interest": "Interest earned",
                    "expenses:interest": "Interest paid to funders",
                    "expenses:provisions": "Provisions for losses",
                }
            ),
            ChartNode(
                code="assets:allowance", type="asset", name="Allowance for losses", normal_side="credit"
            ),
        ),
        _facings(*_BUSINESS),
    ),
    "neobank": Template(
        "Current and savings accounts, cards, and interest both ways.",
        _nodes(
            _BASE
            | {
                "assets:central-bank": "Balances at the central bank",
                "assets:overdrafts": "Overdrafts of customers",
                "assets:interest": "Interest receivable",
                "liabilities:current": "Current accounts",
                "liabilities:savings": "Savings accounts",
                "liabilities:cards": "Authorised and not yet settled card payments",
                "liabilities:interest": "Interest payable",
                "income:interchange": "Interchange",
                "income:interest": "Interest earned",
                "expenses:interest": "Interest paid",
            }
        ),
        _facings(*_BUSINESS),
    ),
}
