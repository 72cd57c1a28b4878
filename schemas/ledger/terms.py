"""Words that the ledger's commands and events share: sides, types of accounts, codes of a chart."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import StringConstraints

Side = Literal["debit", "credit"]
AccountType = Literal["asset", "liability", "equity", "income", "expense"]

#: Type -> the side on which its accounts usually grow. A contra account grows on the other.
NORMAL_SIDES: Final[dict[AccountType, Side]] = {
    "asset": "debit",
    "liability": "credit",
    "equity": "credit",
    "income": "credit",
    "expense": "debit",
}
#: Segments between two levels of a code: ``liabilities:wallets:7``.
SEPARATOR: Final = ":"
MAX_DEPTH: Final = 8
_SEGMENT: Final = r"[A-Za-z0-9][A-Za-z0-9._/@+-]*"
#: A node of a chart: one to eight segments.
ChartCode = Annotated[
    str, StringConstraints(max_length=128, pattern=rf"^{_SEGMENT}(:{_SEGMENT}){{0,{MAX_DEPTH - 1}}}$")
]
#: Nodes of a chart and all below them; ``*`` stands for one segment, whatever it is.
ChartPattern = Annotated[
    str,
    StringConstraints(max_length=128, pattern=rf"^(\*|{_SEGMENT})(:(\*|{_SEGMENT})){{0,{MAX_DEPTH - 1}}}$"),
]
