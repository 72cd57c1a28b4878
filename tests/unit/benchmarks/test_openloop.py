"""The open loop sends when it is time, whatever becomes of the answers, and counts from the moment that was meant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from benchmarks.openloop import OpenLoop, open_loop
from benchmarks.stats import Latencies
from tests.unit.benchmarks.virtual_time import clock, run


def load(rate: float, seconds: float, send: Callable[[float], Awaitable[None]]) -> OpenLoop:
    return run(open_loop(rate, seconds, send, clock=clock, grace_s=30))


def server(
    stall: tuple[float, float] | None = None, work_s: float = 0.001
) -> Callable[[float], Awaitable[None]]:
    """Answers after ``work_s``, but nothing between ``stall`` (seconds after its first request)."""
    begun: list[float] = []

    async def send(_: float) -> None:
        begun.append(clock())
        now = clock() - begun[0]
        if stall is not None and stall[0] <= now < stall[1]:
            await asyncio.sleep(stall[1] - now)
        await asyncio.sleep(work_s)

    return send


def test_requests_leave_at_a_constant_rate() -> None:
    dues: list[tuple[float, float]] = []

    async def send(due: float) -> None:
        dues.append((due, clock()))
        await asyncio.sleep(0.5)  # a slow answer holds nothing up

    found = load(100, 2, send)
    assert found.sent == len(dues) == 200
    gaps = {round(b[0] - a[0], 6) for a, b in pairwise(dues)}
    assert gaps == {0.01}
    assert all(sent == pytest.approx(due, abs=1e-6) for due, sent in dues)
    assert found.latest_send_s == pytest.approx(0, abs=1e-6)
    assert {round(s, 6) for s in found.latencies} == {0.5}


def test_a_pause_of_the_server_is_felt_by_every_request_that_was_due_in_it() -> None:
    """The closed loop that this is not would have had one sample of a second in each client, and no others."""
    found = load(1_000, 10, server(stall=(3.0, 4.0)))
    slow = sorted(s for s in found.latencies if s > 0.1)
    assert len(slow) == pytest.approx(900, abs=2), "0.9 s worth of requests waited more than 0.1 s"
    assert Latencies.of(found.latencies).p99_ms == pytest.approx(901, abs=2)
    assert found.sustained


def test_a_late_client_pays_for_its_own_lateness() -> None:
    """When the generator itself can not send in time, the latency still counts from the due moment."""

    async def send(due: float) -> None:
        loop = asyncio.get_running_loop()
        loop.now += 0.02  # type: ignore[attr-defined] -- the client burns 20 ms for each request; 10 ms are there
        assert clock() >= due

    found = load(100, 1, send)
    assert found.latest_send_s > 0.9
    assert max(found.latencies) > 0.9
    assert not found.sustained


def test_a_rate_above_what_the_server_can_is_not_called_sustained() -> None:
    one_at_a_time = asyncio.Lock()

    async def send(_: float) -> None:
        async with one_at_a_time:
            await asyncio.sleep(0.02)

    found = load(100, 5, send)
    assert not found.sustained
    assert found.answered_per_s == pytest.approx(50, rel=0.01)
    assert found.latencies == sorted(found.latencies), "the queue grows to the end"


def test_refusals_and_missing_answers_are_counted_and_not_left_out() -> None:
    number = 0

    async def send(_: float) -> None:
        nonlocal number
        number += 1
        if number % 10 == 0:
            raise RuntimeError("503 instead of 201")
        if number % 10 == 1:
            await asyncio.sleep(3_600)

    found = load(100, 1, send)
    assert (len(found.latencies), len(found.errors), found.unanswered) == (80, 10, 10)
    assert found.errors[0] == "RuntimeError: 503 instead of 201"
    assert not found.sustained
