"""One trace from the HTTP request to the views, metrics of every process, and logs that name the command and nobody."""

from __future__ import annotations

import asyncio
import json
import secrets
import urllib.request
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from cli.roles import GROUPS, health_port_offset
from nexafi.ids import shard_of
from tests.kit.newcomer import Newcomer, Span, eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

#: What must be in no log, span or metric. Shapes of secrets are found anywhere; names only if nobody writes them down.
CANARIES = {
    "payer": "Zebulon Quackenbush",
    "payee": "Philomena Wigglesworth",
    "description": "gift for a secret wedding",
    "iban": "DE89370400440532013000",
    "card": "4111111111111111",
    "mail": "zebulon.q@example.org",
}


def _post(first: Newcomer, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    sent = {
        "Authorization": (first.data / "demo.headers").read_text().strip().removeprefix("Authorization: "),
        "Content-Type": "application/json",
        "Idempotency-Key": secrets.token_hex(8),
        "Prefer": "wait=20",
        **headers,
    }
    request = urllib.request.Request(first.gateway + path, json.dumps(body).encode(), sent)
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def _payment(first: Newcomer) -> dict[str, Any]:
    book = json.loads((first.data / "credentials.json").read_text())["book"]
    return {
        "ledger_id": book["ledger_id"],
        "payer": {"account_id": book["alice"], "name": CANARIES["payer"]},
        "payee": {"account_id": book["bob"], "name": CANARIES["payee"]},
        "amount": 7,
        "currency": "EUR",
        "description": f"{CANARIES['description']} {CANARIES['iban']}",
        "metadata": {"card": CANARIES["card"], "mail": CANARIES["mail"]},
    }


def _traced(first: Newcomer, wanted: set[str]) -> tuple[str, list[Span]]:
    """Make a payment in a trace of the caller's own and wait until all ``wanted`` spans have come."""
    trace = secrets.token_hex(16)
    _post(first, "/v1/payments", _payment(first), traceparent=f"00-{trace}-{'c' * 16}-01")
    for _ in eventually(90, f"no span of {wanted} in the trace"):
        spans = first.collector.of_trace(trace)
        missing = wanted - {s.name for s in spans}
        if not missing:
            return trace, spans
    raise AssertionError(missing)


def test_one_trace_from_the_request_through_kafka_to_the_views(first: Newcomer) -> None:
    wanted = {
        "/v1/payments",
        "payments.append",
        "payment-saga.append",
        "compliance.append",
        "ai.append",
        "ledger.append",
        "projection.payments",
        "projection.ledger",
    }
    trace, spans = _traced(first, wanted)
    assert len({s.service for s in spans}) >= 4, "one trace over several processes"
    (request,) = [s for s in spans if s.name == "/v1/payments"]
    assert request.parent == "c" * 16
    known = {s.id for s in spans}
    assert all(s.parent in known for s in spans if s is not request), (
        "every other span continues one of the trace"
    )
    # What was done for many at once is a span of its own that links to each of them.
    own = {s.name for s in first.collector.spans if s.trace != trace and trace in s.links}
    assert {"payments.append", "ledger.append", "projection.payments"} <= own


def test_every_process_has_its_metrics(first: Newcomer) -> None:
    _traced(first, {"projection.payments"})
    wanted = {
        "nexafi_gateway_requests_total",
        "nexafi_gateway_request_time_seconds_bucket",
        "nexafi_writer_batch_size_bucket",
        "nexafi_writer_commit_time_seconds_bucket",
        "nexafi_consumer_lag",
        "nexafi_relay_lag",
        "nexafi_projection_lag_seconds",
        "nexafi_saga_age_seconds_bucket",
    }
    for _ in eventually(60, f"not scraped: {wanted}"):
        text = "".join(_scrape(first, group) for group in GROUPS)
        names = {
            line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")
        }
        if wanted <= names:
            break
    assert 'service="ledger"' in text
    assert first.collector.metric_posts > 0
    assert not [name for name, canary in CANARIES.items() if canary in text]


def _scrape(first: Newcomer, group: str) -> str:
    port = first.settings.port("health") + health_port_offset(group)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


async def _poison(first: Newcomer, correlation: str, value: bytes) -> None:
    """A command that can not be read, with personal data in it."""
    book = json.loads((first.data / "credentials.json").read_text())["book"]
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", correlation.encode()),
        ("ce_type", b"ledger.post-transaction.v1"),
        ("ce_tenant", b"demo"),
        ("ce_actor", b"test"),
        ("ce_time", b"2026-01-01T00:00:00Z"),
        ("ce_correlationid", correlation.encode()),
    ]
    producer = AIOKafkaProducer(bootstrap_servers=first.settings.kafka, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(
            "ledger.commands", value, partition=shard_of(book["ledger_id"]), headers=headers
        )
    finally:
        await producer.stop()


def test_logs_name_the_command_and_nobody(first: Newcomer) -> None:
    """Personal data in a payment, in a refused one, in a record that can not be read and in a broken request."""
    _traced(first, {"projection.payments"})
    correlation = "0f0e0d0c-0b0a-4908-8706-050403020100"
    body = json.dumps({**_payment(first), "amount": CANARIES["payer"], "entries": list(CANARIES.values())})
    asyncio.run(_poison(first, correlation, body.encode()))
    first.shell(
        f"curl -sS {first.gateway}/v1/payments -H @{first.data}/demo.headers -H 'Idempotency-Key: broken' "
        f"-H 'Content-Type: application/json' -d '{body}' | grep -q validation-failed"
    )
    for _ in eventually(60, "the record that was set aside is not in the logs"):
        lines = [json.loads(line) for line in first.logs().splitlines() if line.startswith("{")]
        mine = [line for line in lines if line.get("correlation_id") == correlation]
        if mine:
            break
    assert mine[0]["event"] == "record set aside"
    assert (mine[0]["topic"], mine[0]["level"]) == ("ledger.commands", "error")
    text = first.logs() + " ".join(raw.decode("latin-1") for raw in first.collector.raw)
    assert not [name for name, canary in CANARIES.items() if canary in text]
