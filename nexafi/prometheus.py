"""OpenTelemetry metrics as Prometheus text (exposition format 0.0.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from opentelemetry.sdk.metrics.export import (
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData

#: UCUM unit -> suffix that Prometheus asks for.
_UNITS: Final = {"s": "_seconds", "By": "_bytes"}
_NOT_NAME: Final = re.compile(r"[^a-zA-Z0-9_]")


def render(data: MetricsData | None) -> bytes:
    """Text of all metrics; empty when there are none."""
    lines: list[str] = []
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                lines.extend(_metric(metric))
    return ("\n".join(lines) + "\n").encode() if lines else b""


def _metric(metric: Metric) -> Iterable[str]:
    name = _NOT_NAME.sub("_", metric.name) + _UNITS.get(metric.unit or "", "")
    data = metric.data
    if isinstance(data, HistogramData):
        kind = "histogram"
    elif isinstance(data, Sum) and data.is_monotonic:
        kind, name = "counter", f"{name}_total"
    elif isinstance(data, (Sum, Gauge)):
        kind = "gauge"
    else:  # exponential histograms have no form in this format
        return
    text = (metric.description or "").replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for point in data.data_points:
        if isinstance(point, HistogramDataPoint):
            yield from _buckets(name, point)
        elif isinstance(point, NumberDataPoint):
            yield f"{name}{_labels(point.attributes or {})} {_number(point.value)}"


def _buckets(name: str, point: HistogramDataPoint) -> Iterable[str]:
    attributes = point.attributes or {}
    total = 0
    for bound, count in zip([*map(_number, point.explicit_bounds), "+Inf"], point.bucket_counts, strict=True):
        total += count
        yield f"{name}_bucket{_labels({**attributes, 'le': bound})} {total}"
    yield f"{name}_sum{_labels(attributes)} {_number(point.sum)}"
    yield f"{name}_count{_labels(attributes)} {point.count}"


def _labels(attributes: Mapping[str, object]) -> str:
    if not attributes:
        return ""
    parts = []
    for key, value in attributes.items():
        text = str(value).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
        parts.append(f'{_NOT_NAME.sub("_", key)}="{text}"')
    return "{" + ",".join(parts) + "}"


def _number(value: float) -> str:
    return repr(int(value)) if float(value).is_integer() else repr(float(value))
