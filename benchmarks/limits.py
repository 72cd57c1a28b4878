"""What this machine allows: COPY of the same rows, Kafka produce, an empty HTTP route. Measured in the same run."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, Final

import psycopg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.http_client import Connection
from events.producer import new_producer
from nexafi.settings import Settings

ROWS: Final = 200_000
BATCH: Final = 4_000
_SPACE: Final = "bench_limits"
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"


def copy_rows(settings: Settings, rows: int = ROWS) -> float:
    """Event rows a second by binary COPY into a table with the columns and indexes of ``ledger.events``.

    Like the writer's: one transaction with fsync for each 4,000 rows, one connection, and the bytes of real transfers (the
    lengths of what the ledger stores). They are made beforehand, so the client only sends.
    """
    batches = [_batch(start, min(BATCH, rows - start)) for start in range(0, rows, BATCH)]
    with psycopg.connect(settings.database, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {_SPACE} CASCADE")
        connection.execute(f"CREATE SCHEMA {_SPACE}")
        connection.execute(f"CREATE TABLE {_SPACE}.events (LIKE ledger.events INCLUDING ALL)")
        begun = time.perf_counter()
        for batch in batches:
            with (
                connection.transaction(),
                connection.cursor().copy(f"COPY {_SPACE}.events FROM STDIN (FORMAT BINARY)") as copy,
            ):
                copy.write(batch)
        took = time.perf_counter() - begun
        found = connection.execute(f"SELECT count(*) FROM {_SPACE}.events").fetchone()
        assert found is not None
        assert found[0] == rows
        connection.execute(f"DROP SCHEMA {_SPACE} CASCADE")
    return rows / took


def _batch(first: int, count: int) -> bytes:
    """Rows as the ledger's writer encodes them, for positions from ``first + 1``."""
    from events.chain import encode_row

    time_us = 1_767_225_600_000_000
    encoded = []
    for position in range(first + 1, first + count + 1):
        stream = (position * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big") * 2
        name = stream.hex()
        metadata = (
            '{"time":%d,"tenant":"bench","actor":"key:bench","correlation":"%s","causation":"%s"}'
            % (time_us + position, _dashed(name), _dashed(name))
        ).encode()
        state = (
            '{"ledger_id":"%s","transaction_id":"%s","entries":[{"account_id":"%s","side":"debit","amount":1,'
            '"currency":"EUR"},{"account_id":"%s","side":"credit","amount":1,"currency":"EUR"}],"effective_at":%d}'
            % (*(_dashed(name),) * 4, time_us + position)
        ).encode()
        encoded.append(encode_row(0, position, stream, 1, b"ledger.transaction-posted.v1", metadata, state))
    return b"".join((_HEADER, *encoded, _END))


def _dashed(name: str) -> str:
    return f"{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{name[20:]}"


async def produce(settings: Settings, rows: int = ROWS) -> float:
    """Records a second of the size of an event, acknowledged by the broker."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    topic = f"bench-{time.time_ns()}"
    await admin.create_topics([NewTopic(topic, 1, 1)])
    producer = new_producer(settings, "bench")
    await producer.start()
    headers = [(f"ce_header{n}", b"v" * 24) for n in range(14)]
    try:
        begun = time.perf_counter()
        deliveries = []
        batch = producer.create_batch()
        for _ in range(rows):
            while batch.append(timestamp=None, key=b"k" * 36, value=b"v" * 330, headers=headers) is None:
                batch.close()
                deliveries.append(await producer.send_batch(batch, topic, partition=0))
                batch = producer.create_batch()
        batch.close()
        deliveries.append(await producer.send_batch(batch, topic, partition=0))
        for delivery in deliveries:
            await delivery
        return rows / (time.perf_counter() - begun)
    finally:
        await producer.stop()
        await admin.delete_topics([topic])
        await admin.close()


async def empty_route(port: int, *, clients: int = 128, seconds: float = 3.0) -> float:
    """Requests a second that a FastAPI route answers with nothing, in a process of its own like the gateway's."""
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.limits", str(port))
    try:
        await _connected(port)
        count = 0
        ends = time.perf_counter() + seconds

        async def client() -> None:
            nonlocal count
            connection = await Connection.open("127.0.0.1", port)
            while time.perf_counter() < ends:
                await connection.request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                count += 1
            connection.close()

        begun = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return count / (time.perf_counter() - begun)
    finally:
        server.terminate()
        await server.wait()


async def _connected(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            (await Connection.open("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


def _serve(port: int) -> None:
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def nothing() -> dict[str, Any]:
        return {}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
