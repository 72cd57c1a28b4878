"""The search: from a caller's parameters to a request for Elasticsearch, and back."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final

import orjson

from nexafi.problems import ProblemError
from nexafi.settings import Settings
from projections.queries.reading import limit_parameter, time_parameter
from projections.search.documents import INDICES, MAX_LONG
from schemas.common.envelope import rfc3339

_KINDS: Final = {index.kind: index for index in INDICES}
#: Parameter -> field; several values are separated by commas.
_TERMS: Final = {
    "status": "status",
    "currency": "currency",
    "ledger_id": "ledger_id",
    "account_id": "accounts",
    "reference": "reference",
    "side": "side",
}
_INTERVALS: Final = ("hour", "day", "week", "month", "year")
_FACETS: Final = ("kind", "status", "currency", "side", "reason")
MAX_QUERY_CHARS: Final = 256
MAX_TERMS: Final = 50
#: The histogram is left out when the hits span more buckets than that.
MAX_BUCKETS: Final = 2_000


def search_request(settings: Settings, tenant: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of the client's ``search``. The tenant is a filter that no parameter can touch."""
    kind = query.get("kind")
    if kind is not None and kind not in _KINDS:
        raise ProblemError("invalid-parameter", f"One of {', '.join(_KINDS)}.", pointer="?kind")
    text = query.get("q", "")
    if len(text) > MAX_QUERY_CHARS:
        raise ProblemError("invalid-parameter", f"At most {MAX_QUERY_CHARS} characters.", pointer="?q")
    interval = query.get("interval", "day")
    if interval not in _INTERVALS:
        raise ProblemError("invalid-parameter", f"One of {', '.join(_INTERVALS)}.", pointer="?interval")
    wanted = [_KINDS[kind]] if kind else INDICES
    histogram = {"field": "created_at", "calendar_interval": interval, "min_doc_count": 1}
    facets = {name: {"terms": {"field": name, "size": 20}} for name in _FACETS}
    request: dict[str, Any] = {
        "index": ",".join(index.alias(settings) for index in wanted),
        "query": {"bool": {"filter": _filters(tenant, query), "must": _words(text)}},
        "size": limit_parameter(query.get("limit")) + 1,
        "sort": [{"created_at": "desc"}, {"id": "desc"}],
        "highlight": {"fields": {"text": {}}},
        "aggs": {**facets, "histogram": {"date_histogram": histogram}},
        "timeout": "3s",
    }
    if cursor := query.get("cursor"):
        request["search_after"] = _read(cursor)
    return request


def _filters(tenant: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
    filters: list[dict[str, Any]] = [{"term": {"tenant": tenant}}]
    span = {
        name: rfc3339(value)
        for name, key in (("gte", "from"), ("lt", "to"))
        if (value := time_parameter(query.get(key), key)) is not None
    }
    if span:
        filters.append({"range": {"created_at": span}})
    for name, fields in _TERMS.items():
        if (raw := query.get(name)) is not None:
            values = [v for v in raw.split(",") if v]
            if not values or len(values) > MAX_TERMS:
                raise ProblemError("invalid-parameter", f"1 to {MAX_TERMS} values.", pointer=f"?{name}")
            filters.append({"terms": {fields: values}})
    amounts = {
        bound: value
        for bound, name in (("gte", "amount_min"), ("lte", "amount_max"))
        if (value := _amount(query.get(name), name)) is not None
    }
    if amounts:
        filters.append({"range": {"amount": amounts}})
    return filters


def _words(text: str) -> list[dict[str, Any]]:
    """Free text. Never ``query_string``: its syntax would be the caller's to write."""
    if not text:
        return []
    should = [
        {"match": {"text": {"query": text, "operator": "and", "fuzziness": "AUTO"}}},
        {"match_bool_prefix": {"text": {"query": text, "operator": "and"}}},
        *({"term": {name: text}} for name in ("reference", "id", "owner", "accounts")),
    ]
    return [{"bool": {"should": should, "minimum_should_match": 1}}]


def _amount(value: str | None, name: str) -> int | None:
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or int(value[:20]) > MAX_LONG or len(value) > 19:
        raise ProblemError("invalid-parameter", "A whole number of minor units.", pointer=f"?{name}")
    return int(value)


def search_result(body: Mapping[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
    """Items with highlights, facets and a histogram of their times."""
    limit = limit_parameter(query.get("limit"))
    hits = body["hits"]["hits"]
    aggregations = body["aggregations"]
    items = []
    for hit in hits[:limit]:
        source = {k: v for k, v in hit["_source"].items() if k not in ("tenant", "owner", "ordinal")}
        source["highlights"] = hit.get("highlight", {}).get("text", [])
        items.append(source)
    last = hits[limit - 1]["sort"] if len(hits) > limit else None
    total = body["hits"]["total"]
    return {
        "items": items,
        "total": total["value"],
        "total_is_exact": total["relation"] == "eq",
        "facets": {
            name: {b["key"]: b["doc_count"] for b in aggregations[name]["buckets"]} for name in _FACETS
        },
        "histogram": [
            {"from": b["key_as_string"], "count": b["doc_count"]}
            for b in aggregations["histogram"]["buckets"][:MAX_BUCKETS]
        ],
        "next_cursor": urlsafe_b64encode(orjson.dumps(last)).rstrip(b"=").decode() if last else None,
    }


def _read(cursor: str) -> list[Any]:
    try:
        values = orjson.loads(urlsafe_b64decode(cursor[:512] + "=" * (-len(cursor[:512]) % 4)))
    except ValueError:
        values = None
    if not isinstance(values, list) or len(values) != 2 or not all(isinstance(v, str | int) for v in values):
        raise ProblemError("invalid-parameter", "Not a cursor of this search.", pointer="?cursor")
    return values
