"""What is in the search index: one declaration for each kind of document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.common.envelope import rfc3339

_KEYWORD: Final = {"type": "keyword"}
_TEXT: Final = {"type": "text", "analyzer": "standard"}
_LONG: Final = {"type": "long"}
_DATE: Final = {"type": "date_nanos"}
#: Elasticsearch's long; amounts above are searched by their text only.
_MAX_LONG: Final = 2**63 - 1


@dataclass(frozen=True)
class Index:
    """An index that mirrors a query over one view. ``view`` is the name of its marks."""

    alias: str
    view: str
    of_view: str
    service: str
    query: str
    document: Callable[[dict[str, Any]], dict[str, Any]]
    mappings: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=lambda: {"number_of_shards": 1, "number_of_replicas": 0})


def _amount(row: dict[str, Any]) -> dict[str, Any]:
    value = int(row["amount"])
    return {"amount": value} if value <= _MAX_LONG else {}


def _payment(row: dict[str, Any]) -> dict[str, Any]:
    payer, payee = row["payer"], row["payee"]
    return {
        "id": str(row["payment_id"]),
        "kind": "payment",
        "tenant": row["tenant"],
        "ledger_id": str(row["ledger_id"]),
        "status": row["status"],
        "currency": row["currency"],
        **_amount(row),
        "accounts": [payer["account_id"], payee["account_id"]],
        "text": " ".join(
            filter(None, [row["description"], payer["name"], payee["name"], row["external_reference"]])
        ),
        "reference": row["external_reference"],
        "reason": row["reason"],
        "created_at": rfc3339(row["created_at"]),
    }


def _transaction(row: dict[str, Any]) -> dict[str, Any]:
    entries = row["entries"]
    currencies = sorted({e["currency"] for e in entries})
    return {
        "id": str(row["transaction_id"]),
        "kind": "transaction",
        "tenant": row["tenant"],
        "ledger_id": str(row["ledger_id"]),
        "status": "reversed" if row["reversed_by"] else "posted",
        "currency": currencies,
        "accounts": sorted({e["account_id"] for e in entries}),
        "text": " ".join(filter(None, [row["description"], row["reference"], *row["metadata"].values()])),
        "reference": row["reference"],
        "created_at": rfc3339(row["created_at"]),
    }


_MAPPINGS: Final = {
    "dynamic": "strict",
    "properties": {
        "id": _KEYWORD,
        "kind": _KEYWORD,
        "tenant": _KEYWORD,
        "ledger_id": _KEYWORD,
        "status": _KEYWORD,
        "currency": _KEYWORD,
        "amount": _LONG,
        "accounts": _KEYWORD,
        "text": _TEXT,
        "reference": _KEYWORD,
        "reason": _KEYWORD,
        "created_at": _DATE,
    },
}

INDICES: Final = (
    Index(
        "nexafi-payments",
        "search-payments",
        "payments",
        "payments",
        "SELECT * FROM views.payments WHERE shard = :shard AND position > :after "
        "ORDER BY position LIMIT :limit",
        _payment,
        _MAPPINGS,
    ),
    Index(
        "nexafi-transactions",
        "search-transactions",
        "ledger",
        "ledger",
        "SELECT * FROM views.transactions WHERE shard = :shard AND position > :after "
        "ORDER BY position LIMIT :limit",
        _transaction,
        _MAPPINGS,
    ),
)
