"""What is in the search index: one declaration for each kind of document, made from rows of a PostgreSQL view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

import orjson

from nexafi.settings import Settings
from schemas.common.envelope import rfc3339

_KEYWORD: Final = {"type": "keyword"}
_TEXT: Final = {"type": "text", "analyzer": "standard"}
_LONG: Final = {"type": "long"}
_DATE: Final = {"type": "date_nanos"}
#: Elasticsearch's long; amounts above are found by their text only.
MAX_LONG: Final = 2**63 - 1

Row = Mapping[str, Any]
Document = dict[str, Any]


@dataclass(frozen=True)
class Index:
    """An index that mirrors one table of a view. ``view`` is the name under which its versions and marks are kept.

    ``key`` is the table's primary key; ``documents`` makes a row's documents, each with an ``id`` and the key as
    ``owner``; they all carry the row's counter as their external version. ``code`` is the version of this
    declaration: count it up when documents change in what they say.
    """

    view: str
    kind: str
    of_view: str
    table: str
    key: str
    documents: Callable[[Row], list[Document]]
    mappings: Mapping[str, Any]
    code: int

    @cached_property
    def layout(self) -> str:
        """Fingerprint of the mapping and the code: an index of another one is made anew."""
        return sha256(orjson.dumps([self.code, self.mappings], option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]

    def alias(self, settings: Settings) -> str:
        """The name that is searched."""
        return f"{settings.search_prefix}-{self.view.removeprefix('search-')}"

    def name(self, settings: Settings, version: int) -> str:
        """The index of a version."""
        return f"{self.alias(settings)}-v{version}"


def _loaded(value: Any) -> Any:
    """A JSON column, whatever the driver made of it."""
    return orjson.loads(value) if isinstance(value, str) else value


def _amount(name: str, value: Any) -> Document:
    number = int(value)
    return {name: number} if number <= MAX_LONG else {}


def _words(*parts: Any) -> str:
    return " ".join(str(p) for p in parts if p)


def _payment(row: Row) -> list[Document]:
    payer, payee = _loaded(row["payer"]), _loaded(row["payee"])
    identifier = str(row["payment_id"])
    document = {
        "id": identifier,
        "owner": identifier,
        "ordinal": 0,
        "kind": "payment",
        "tenant": row["tenant"],
        "ledger_id": str(row["ledger_id"]),
        "status": row["status"],
        "currency": row["currency"],
        **_amount("amount", row["amount"]),
        "accounts": [payer["account_id"], payee["account_id"]],
        "text": _words(
            row["description"],
            payer["name"],
            payee["name"],
            row["external_reference"],
            *_loaded(row["metadata"]).values(),
        ),
        "reference": row["external_reference"],
        "reason": row["reason"],
        "created_at": rfc3339(row["created_at"]),
        "updated_at": rfc3339(row["updated_at"]),
    }
    return [document]


def _entries(row: Row) -> list[Document]:
    """Each leg of a transaction is a document: an account's movements are searched one by one."""
    identifier = str(row["transaction_id"])
    shared = {
        "owner": identifier,
        "kind": "entry",
        "tenant": row["tenant"],
        "ledger_id": str(row["ledger_id"]),
        "transaction_id": identifier,
        "status": "reversed" if row["reversed_by"] else "posted",
        "text": _words(row["description"], row["reference"], *_loaded(row["metadata"]).values()),
        "reference": row["reference"],
        "effective_at": rfc3339(row["effective_at"]),
        "created_at": rfc3339(row["created_at"]),
        "updated_at": rfc3339(row["updated_at"]),
    }
    return [
        shared
        | {
            "id": f"{identifier}.{leg}",
            "ordinal": leg,
            "side": entry["side"],
            "currency": entry["currency"],
            **_amount("amount", entry["amount"]),
            "accounts": [entry["account_id"]],
        }
        for leg, entry in enumerate(_loaded(row["entries"]))
    ]


def _mappings(**more: Any) -> Mapping[str, Any]:
    properties = {
        "id": _KEYWORD,
        "owner": _KEYWORD,
        "ordinal": {"type": "integer"},
        "kind": _KEYWORD,
        "tenant": _KEYWORD,
        "ledger_id": _KEYWORD,
        "status": _KEYWORD,
        "currency": _KEYWORD,
        "amount": _LONG,
        "accounts": _KEYWORD,
        "text": _TEXT,
        "reference": _KEYWORD,
        "created_at": _DATE,
        "updated_at": _DATE,
        **more,
    }
    return {"dynamic": "strict", "properties": properties}


PAYMENTS: Final = Index(
    "search-payments",
    "payment",
    "payments",
    "payments",
    "payment_id",
    _payment,
    _mappings(reason=_KEYWORD),
    code=2,
)
ENTRIES: Final = Index(
    "search-entries",
    "entry",
    "ledger",
    "transactions",
    "transaction_id",
    _entries,
    _mappings(transaction_id=_KEYWORD, side=_KEYWORD, effective_at=_DATE),
    code=2,
)
INDICES: Final = (PAYMENTS, ENTRIES)


def index_of(view: str) -> Index:
    """The index whose marks are kept as ``view``; ``KeyError`` when there is none."""
    return {index.view: index for index in INDICES}[view]
