"""What the README promises a newcomer, command by command: pasted, run, and looked at from every side."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from tests.kit.newcomer import Newcomer, eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

ENDS = ["settled", "failed", "cancelled", "rejected"]


def _curl(first: Newcomer) -> str:
    """The printed command, as it stands between "Try" and the next blank line."""
    match = re.search(r"^curl .*?(?=\n\n)", first.said, re.DOTALL | re.MULTILINE)
    assert match is not None, first.said
    return match.group()


def _get(first: Newcomer, path: str) -> dict[str, Any]:
    """A read as from a shell; asked again while a part of the platform is still away (503)."""
    for _ in eventually(90, f"{path} stayed away"):
        said = first.shell(f"curl -sS '{first.gateway}{path}' -H @{first.data}/demo.headers")
        found: dict[str, Any] = json.loads(said)
        if found.get("status") != 503:
            return found
    raise AssertionError


def _settled(first: Newcomer, payment_id: str) -> dict[str, Any]:
    for _ in eventually(90, "the payment did not end"):
        seen = _get(first, f"/v1/payments/{payment_id}")
        if seen.get("status") in ENDS:
            return seen
    raise AssertionError


@pytest.fixture(scope="module")
def paid(first: Newcomer) -> dict[str, Any]:
    """The answer to the printed `curl`, pasted."""
    answer: dict[str, Any] = json.loads(first.shell(_curl(first)))
    return answer


def test_the_pasted_curl_makes_a_payment_that_settles_with_its_timeline(
    first: Newcomer, paid: dict[str, Any]
) -> None:
    assert paid["status"] == "accepted", paid
    seen = _settled(first, paid["result"]["payment_id"])
    assert (seen["status"], seen["amount"], seen["currency"]) == ("settled", 1250, "EUR")
    steps = [step["event"] for step in seen["timeline"]]
    assert steps[0] == "payment-initiated"
    assert steps[-3:] == ["payment-held", "payment-posted", "payment-settled"]
    assert {"payment-screened", "payment-scored"} == set(steps[1:-3])


def test_search_finds_it(first: Newcomer, paid: dict[str, Any]) -> None:
    for _ in eventually(120, "search did not find the payment"):
        found = _get(first, "/v1/search?q=first&kind=payment")
        if any(item.get("id") == paid["result"]["payment_id"] for item in found.get("items", [])):
            break
    assert found["items"]


def test_its_events_can_be_watched(first: Newcomer, paid: dict[str, Any]) -> None:
    said = first.shell(
        f"timeout 60 curl -sSN {first.gateway}/v1/operations/{paid['id']}/events -H @{first.data}/demo.headers"
    )
    data = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: ")]
    assert data[0]["status"] == "accepted"
    assert data[-2]["type"] == "payments.payment-settled.v1"
    assert data[-1]["reason"] == "completed"


def test_a_payment_is_watched_live_on_the_tenants_stream(first: Newcomer) -> None:
    line = (
        f"timeout 60 curl -sSN '{first.gateway}/v1/events?types=payments.*' -H @{first.data}/demo.headers"
        f" | sed -u '/payments.payment-settled.v1/q' & sleep 2; {_curl(first)}; wait"
    )
    said = first.shell(line)
    assert said.count('"type":"payments.payment-initiated.v1"') == 1
    assert said.count('"type":"payments.payment-settled.v1"') == 1


async def _records(bootstrap: str, topic: str) -> list[tuple[dict[str, str], Any]]:
    """All of a topic, with aiokafka and the standard library alone."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = sorted(consumer.assignment())
        ends = await consumer.end_offsets(partitions)
        found = []
        while any([await consumer.position(p) < ends[p] for p in partitions]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                found += [({k: v.decode() for k, v in r.headers}, json.loads(r.value)) for r in batch]
        return found
    finally:
        await consumer.stop()


def test_a_plain_kafka_consumer_reads_it_as_cloud_events(first: Newcomer, paid: dict[str, Any]) -> None:
    payment = paid["result"]["payment_id"]
    _settled(first, payment)
    records = asyncio.run(_records(first.settings.kafka, "payments.events"))
    mine = [(headers, data) for headers, data in records if headers["ce_subject"] == payment]
    types = [headers["ce_type"] for headers, _ in mine]
    assert types[0] == "payments.payment-initiated.v1"
    assert types[-1] == "payments.payment-settled.v1"
    for headers, data in mine:
        assert headers["ce_specversion"] == "1.0"
        assert headers["content-type"] == "application/json"
        assert headers["ce_source"] == "nexafi/payments"
        assert headers["ce_tenant"] == "demo"
        assert {
            "ce_id",
            "ce_time",
            "ce_history",
            "ce_shard",
            "ce_position",
            "ce_correlationid",
        } <= headers.keys()
        assert isinstance(data, dict)
    assert mine[0][1]["amount"] == 1250
    positions = [int(headers["ce_position"]) for headers, _ in mine]
    assert positions == sorted(positions)


def test_the_history_verifies(first: Newcomer, paid: dict[str, Any]) -> None:
    _settled(first, paid["result"]["payment_id"])
    said = first.nexafi("audit", "verify")
    assert re.search(r"[1-9]\d* events verified", said.replace(",", "")), said
    assert "0 shards wrong" in said
    assert "WRONG" not in said


def test_a_banks_file_makes_payments_that_end_and_twice_makes_nothing_twice(first: Newcomer) -> None:
    command = ("import", "pain.001", "tests/data/pain.001.001.08.xml", "--create-accounts")
    began = time.monotonic()
    said = first.nexafi(*command)
    again = first.nexafi(*command)
    assert re.search(r"1 transactions, 1 settled, 0 refused", said), said
    ids = [re.findall(r"01[0-9a-f]{6}-[0-9a-f…-]+", text) for text in (said, again)]
    assert ids[0] == ids[1] != []
    assert time.monotonic() - began < 240
