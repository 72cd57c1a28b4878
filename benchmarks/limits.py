"""What this machine allows: COPY of event rows, Kafka produce, an empty HTTP route. Measured in the same run."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from fastapi import FastAPI

from benchmarks.http_client import Connection
from events.producer import new_producer
from nexafi.settings import Settings

ROWS = 100_000


def copy_rows(settings: Settings) -> float:
    """Event rows a second into an unlogged-free, indexed table like ``events``, by COPY in batches of 4,000."""
    row = ("x" * 16, 1, "ledger.transaction-posted.v1", b"m" * 180, b"s" * 450)
    with psycopg.connect(settings.database, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS public.bench_copy")
        conn.execute(
            "CREATE TABLE public.bench_copy (position bigint PRIMARY KEY, originator text, version bigint, "
            "topic text, metadata bytea, state bytea)"
        )
        begun = time.perf_counter()
        for start in range(0, ROWS, 4_000):
            with (
                conn.transaction(),
                conn.cursor().copy("COPY public.bench_copy FROM STDIN (FORMAT BINARY)") as copy,
            ):
                copy.set_types(["int8", "text", "int8", "text", "bytea", "bytea"])
                for position in range(start, start + 4_000):
                    copy.write_row((position, *row))
        took = time.perf_counter() - begun
        conn.execute("DROP TABLE public.bench_copy")
    return ROWS / took


async def produce(settings: Settings) -> float:
    """Records a second of the size of an event, acknowledged by the broker."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    topic = f"bench-{time.time_ns()}"
    await admin.create_topics([NewTopic(topic, 1, 1)])
    producer = new_producer(settings, "bench")
    await producer.start()
    try:
        begun = time.perf_counter()
        deliveries = []
        batch = producer.create_batch()
        for _ in range(ROWS):
            while (
                batch.append(timestamp=None, key=b"k" * 36, value=b"v" * 450, headers=[("ce_type", b"t")])
                is None
            ):
                batch.close()
                deliveries.append(await producer.send_batch(batch, topic, partition=0))
                batch = producer.create_batch()
        batch.close()
        deliveries.append(await producer.send_batch(batch, topic, partition=0))
        for delivery in deliveries:
            await delivery
        return ROWS / (time.perf_counter() - begun)
    finally:
        await producer.stop()
        await admin.delete_topics([topic])
        await admin.close()


async def empty_route(port: int, *, clients: int = 128, seconds: float = 3.0) -> float:
    """Requests a second that FastAPI answers with nothing, server and clients in one process."""
    import uvicorn

    app = FastAPI()

    @app.get("/")
    async def nothing() -> dict[str, Any]:
        return {}

    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", access_log=False))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- uvicorn has no event for it
        await asyncio.sleep(0.05)
    count = 0
    ends = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal count
        connection = await Connection.open("127.0.0.1", port)
        while time.perf_counter() < ends:
            await connection.request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            count += 1
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    server.should_exit = True
    await serving
    return count / seconds
