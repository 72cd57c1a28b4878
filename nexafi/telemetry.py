"""Traces and metrics of OpenTelemetry. A request that is not sampled costs a comparison of one character.

Traces: a head-based ratio sampler that respects the caller's decision. One trace follows a command from
the HTTP request through Kafka to the projection, because every hop continues the ``traceparent`` of its
record; work done for many records at once is a span of its own, linked with each sampled one of them.

Metrics: instruments of OpenTelemetry, read by ``/metrics`` (Prometheus text) and pushed by OTLP when
``NEXAFI_OTLP_ENDPOINT`` is set. The instruments that several rooms feed are named here once.

The variables of the OpenTelemetry specification work as well: ``OTEL_EXPORTER_OTLP_ENDPOINT`` where ours is absent,
``OTEL_TRACES_SAMPLER`` with ``OTEL_TRACES_SAMPLER_ARG``, ``OTEL_SDK_DISABLED``, ``OTEL_METRIC_EXPORT_INTERVAL`` (ms),
and those that the SDK reads by itself (``OTEL_BSP_*``, ``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_RESOURCE_ATTRIBUTES``).
"""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation
from opentelemetry.metrics import _Gauge as Gauge
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExporter, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.util.types import AttributeValue

from nexafi.prometheus import render
from nexafi.settings import Settings

#: A batch is linked with at most this many sampled records; nobody would read more.
MAX_LINKS: Final = 64
#: Bucket bounds of durations, in seconds, and of sizes of batches.
SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
COUNTS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0)
PUSH_EVERY_S: Final = 15.0
_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED: Final = frozenset("13579bdf")  # last character of a traceparent whose sampled flag is set

Attributes = Mapping[str, AttributeValue]

_reader: Final = InMemoryMetricReader()
_meter: Final = MeterProvider([_reader], Resource.get_empty(), shutdown_on_exit=False).get_meter("nexafi")
_random: Final = random.Random()  # noqa: S311 - sampling keeps no secret


def counter(name: str, description: str, unit: str = "1") -> Counter:
    """A sum that only grows; name it ``nexafi.<room>.<what>``."""
    return _meter.create_counter(name, unit, description)


def histogram(name: str, description: str, unit: str = "s", buckets: Sequence[float] = SECONDS) -> Histogram:
    """A distribution; ``unit`` is UCUM (``s``, ``By``, ``1``)."""
    return _meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets)


def observed(
    name: str, description: str, callback: Callable[[CallbackOptions], Iterable[Observation]]
) -> None:
    """A sum that is read where it is kept, whenever metrics are collected."""
    _meter.create_observable_counter(name, [callback], "1", description)


def watched(
    name: str, description: str, callback: Callable[[CallbackOptions], Iterable[Observation]], unit: str = "1"
) -> None:
    """A value that goes up and down and is read where it is kept, whenever metrics are collected."""
    _meter.create_observable_gauge(name, [callback], unit, description)


def gauge(name: str, description: str, unit: str = "1") -> Gauge:
    """A value that is set."""
    return _meter.create_gauge(name, unit, description)


# --- what several rooms feed; attributes: service, shard (or view)
BATCH_SIZE: Final = histogram("nexafi.writer.batch.size", "Commands decided in one batch.", "1", COUNTS)
COMMIT_TIME: Final = histogram("nexafi.writer.commit.time", "Duration of the append transaction.")
CONSUMER_LAG: Final = gauge("nexafi.consumer.lag", "Records between a consumer and the end of its partition.")
RELAY_LAG: Final = gauge("nexafi.relay.lag", "Events stored and not yet published.")
PROJECTION_LAG: Final = gauge("nexafi.projection.lag", "Age of the last event that a view has taken in.", "s")
SAGA_AGE: Final = histogram(
    "nexafi.saga.age", "From the first event of a saga to its end.", "s", (*SECONDS, 60.0, 300.0, 3600.0)
)


class _Tracing:
    """What :func:`configure` set up; one a process."""

    ratio: float = 0.0
    tracer: trace.Tracer | None = None


_tracing: Final = _Tracing()


def configure(settings: Settings, service: str, *, processors: Sequence[SpanProcessor] = ()) -> None:
    """Set up tracing and pushing of this process. Without an endpoint nothing leaves it and no span is made.

    ``processors`` get finished spans as well; tests pass one that remembers.
    """
    resource = Resource.create(
        {"service.name": f"nexafi-{service}", "service.instance.id": settings.instance}
    )
    endpoint = (settings.otlp_endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")).rstrip("/")
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        endpoint = ""
    if not endpoint and not processors:
        _tracing.tracer = None
        return
    # Whether a trace is kept is decided before a span is made (see `begin`): the SDK keeps what it is given.
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource)
    if endpoint:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
        _push(OTLPMetricExporter(f"{endpoint}/v1/metrics"), resource)
    for processor in processors:
        provider.add_span_processor(processor)
    _tracing.tracer = provider.get_tracer("nexafi")
    _tracing.ratio = _ratio(settings)


def _ratio(settings: Settings) -> float:
    """Share of traces to keep where the caller has not decided: the specification's sampler, else our setting."""
    sampler = os.environ.get("OTEL_TRACES_SAMPLER", "").removeprefix("parentbased_")
    if sampler in {"always_on", "always_off"}:
        return float(sampler == "always_on")
    if sampler == "traceidratio":
        return float(os.environ.get("OTEL_TRACES_SAMPLER_ARG", "1"))
    return settings.trace_ratio


# --- traces


def sampled(traceparent: str) -> bool:
    """Whether the caller's trace is kept."""
    return traceparent != "" and traceparent[-1] in _SAMPLED


def clean(traceparent: str) -> str:
    """The header's value when it is a W3C traceparent of version 00, else ``""``."""
    return traceparent if _TRACEPARENT.fullmatch(traceparent) else ""


def begin(
    name: str, traceparent: str = "", kind: SpanKind = SpanKind.SERVER, attributes: Attributes | None = None
) -> Span | None:
    """Start a span when this trace is kept, else ``None``; the caller ends it.

    A given ``traceparent`` decides by its flag; without one the configured ratio does.
    """
    tracer = _tracing.tracer
    if tracer is None:
        return None
    if traceparent:
        if traceparent[-1] not in _SAMPLED:
            return None
    elif _random.random() >= _tracing.ratio:
        return None
    context = (
        trace.set_span_in_context(NonRecordingSpan(parent)) if (parent := _context(traceparent)) else None
    )
    return tracer.start_span(name, context, kind, attributes=attributes)


def traceparent_of(span: Span) -> str:
    """W3C traceparent that continues ``span``."""
    c = span.get_span_context()
    return f"00-{c.trace_id:032x}-{c.span_id:016x}-{int(c.trace_flags):02x}"


@dataclass
class Batch:
    """Spans of one unit of work that was done for many records."""

    span: Span | None = None
    children: dict[str, Span] = field(default_factory=dict)

    def traceparent(self, original: str) -> str:
        """What to hand on for a record that came with ``original``: its own trace, continued through this work."""
        child = self.children.get(original)
        return original if child is None else traceparent_of(child)


_NO_BATCH: Final = Batch()


@contextmanager
def batch_span(
    name: str, traceparents: Iterable[str], attributes: Attributes | None = None
) -> Iterator[Batch]:
    """Spans for work on a batch: one for the batch, and in the trace of each sampled record one that links to it.

    So a record's own trace runs on without a gap, and leads to what it shared the batch with.
    """
    tracer = _tracing.tracer
    kept = [t for t in dict.fromkeys(traceparents) if t and t[-1] in _SAMPLED][:MAX_LINKS] if tracer else []
    if tracer is None or not kept:
        yield _NO_BATCH
        return
    parents = {t: c for t in kept if (c := _context(t))}
    links = [Link(c) for c in parents.values()]
    span = tracer.start_span(name, kind=SpanKind.CONSUMER, attributes=attributes, links=links)
    own = Link(span.get_span_context())
    batch = Batch(span)
    for text, parent in parents.items():
        context = trace.set_span_in_context(NonRecordingSpan(parent))
        batch.children[text] = tracer.start_span(name, context, SpanKind.CONSUMER, attributes, [own])
    try:
        yield batch
    except BaseException as error:
        span.record_exception(error)
        raise
    finally:
        for child in batch.children.values():
            child.end()
        span.end()


def _context(traceparent: str) -> SpanContext | None:
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))


# --- metrics out of the process


def prometheus_text() -> bytes:
    """All metrics in the Prometheus text format 0.0.4."""
    return render(_reader.get_metrics_data())


def _push(exporter: MetricExporter, resource: Resource) -> None:
    """Send all metrics by OTLP from a daemon thread; a collector that is away costs nothing but the attempt."""

    def run() -> None:
        wait = threading.Event()
        every_s = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", PUSH_EVERY_S * 1000)) / 1000
        while not wait.wait(every_s):
            data = _reader.get_metrics_data()
            if data is not None:
                named = [replace(metrics, resource=resource) for metrics in data.resource_metrics]
                exporter.export(MetricsData(resource_metrics=named))

    threading.Thread(target=run, name="otlp-metrics", daemon=True).start()
