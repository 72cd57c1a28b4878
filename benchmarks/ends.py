"""When payments end, seen from outside: a plain consumer of ``payments.events``."""

from __future__ import annotations

import os
import time
from typing import Any

from aiokafka import AIOKafkaConsumer

from nexafi.settings import Settings

_ENDS = {b"payments.payment-settled.v1", b"payments.payment-failed.v1"}


async def watch_ends(credentials: dict[str, Any], settled: dict[str, float]) -> None:
    """Fill ``settled`` with the time at which each payment's end was received."""
    base = int(credentials["url"].rpartition(":")[2])
    settings = Settings(port_base=base, kafka_bootstrap=os.environ.get("NEXAFI_KAFKA_BOOTSTRAP"))
    consumer: AIOKafkaConsumer[bytes, bytes] = AIOKafkaConsumer(
        "payments.events", bootstrap_servers=settings.kafka, auto_offset_reset="latest", fetch_max_wait_ms=50
    )
    await consumer.start()
    try:
        async for record in consumer:
            headers = dict(record.headers)
            if headers["ce_type"] in _ENDS:
                settled[headers["ce_subject"].decode()] = time.perf_counter()
    finally:
        await consumer.stop()
