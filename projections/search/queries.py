"""The search: from a caller's parameters to a request for Elasticsearch, and back."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final

import orjson

from nexafi.problems import ProblemError
from projections.queries.reading import limit_parameter, time_parameter
from schemas.common.envelope import rfc3339

_KINDS: Final = {"payment": "nexafi-payments", "transaction": "nexafi-transactions"}
MAX_QUERY_CHARS: Final = 256


def search_request(tenant: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of the client's ``search``. The tenant is a filter that no parameter can touch."""
    kind = query.get("kind")
    if kind is not None and kind not in _KINDS:
        raise ProblemError("invalid-parameter", f"One of {', '.join(_KINDS)}.", pointer="?kind")
    text = query.get("q", "")
    if len(text) > MAX_QUERY_CHARS:
        raise ProblemError("invalid-parameter", f"At most {MAX_QUERY_CHARS} characters.", pointer="?q")
    filters: list[dict[str, Any]] = [{"term": {"tenant": tenant}}]
    span = {
        name: rfc3339(value)
        for name, key in (("gte", "from"), ("lt", "to"))
        if (value := time_parameter(query.get(key), key)) is not None
    }
    if span:
        filters.append({"range": {"created_at": span}})
    must: list[dict[str, Any]] = []
    if text:
        # Never query_string: its syntax would be the caller's to write.
        must.append(
            {
                "bool": {
                    "should": [
                        {"match": {"text": {"query": text, "operator": "and", "fuzziness": "AUTO"}}},
                        {"match_bool_prefix": {"text": text}},
                        {"term": {"reference": text}},
                        {"term": {"id": text}},
                        {"term": {"accounts": text}},
                    ],
                    "minimum_should_match": 1,
                }
            }
        )
    request: dict[str, Any] = {
        "index": _KINDS[kind] if kind else ",".join(_KINDS.values()),
        "query": {"bool": {"filter": filters, "must": must}},
        "size": limit_parameter(query.get("limit")),
        "sort": [{"created_at": "desc"}, {"id": "desc"}],
        "highlight": {"fields": {"text": {}}},
        "aggs": {
            "status": {"terms": {"field": "status", "size": 20}},
            "currency": {"terms": {"field": "currency", "size": 20}},
            "per_day": {"date_histogram": {"field": "created_at", "calendar_interval": "day"}},
        },
        "timeout": "3s",
    }
    if cursor := query.get("cursor"):
        request["search_after"] = _read(cursor)
    return request


def search_result(body: Mapping[str, Any]) -> dict[str, Any]:
    """Items with highlights, facets and a histogram."""
    hits = body["hits"]["hits"]
    aggregations = body["aggregations"]
    items = []
    for hit in hits:
        source = dict(hit["_source"])
        source.pop("tenant", None)
        source["highlights"] = hit.get("highlight", {}).get("text", [])
        items.append(source)
    last = hits[-1]["sort"] if hits else None
    return {
        "items": items,
        "total": body["hits"]["total"]["value"],
        "facets": {
            name: {b["key"]: b["doc_count"] for b in aggregations[name]["buckets"]}
            for name in ("status", "currency")
        },
        "per_day": {b["key_as_string"]: b["doc_count"] for b in aggregations["per_day"]["buckets"]},
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
