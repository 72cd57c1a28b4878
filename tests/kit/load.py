"""Clients that add to counters with keys of their own, remember what they were told, and ask again until they know."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from schemas.common.outcomes import CommandResult
from tests.kit.counter import Add, Open
from tests.kit.engine import Engine


async def open_counters(engine: Engine, count: int) -> list[str]:
    """So many counters; their ids."""
    results = await asyncio.gather(*(engine.send(Open(name=f"c{i}"), f"open-{i}") for i in range(count)))
    return [str(r.result["counter_id"]) for r in results if r is not None]


@dataclass
class Load:
    """Each key adds one to one counter, so the totals that were told say how often each key took effect."""

    engine: Engine
    counters: list[str]
    acknowledged: dict[str, CommandResult] = field(default_factory=dict)
    sent: dict[str, str] = field(default_factory=dict)
    differing: list[str] = field(default_factory=list)
    sends: int = 0
    stop: bool = False

    async def client(self, number: int) -> None:
        """Send one command after the other until told to stop."""
        count = 0
        while not self.stop:
            await self.once(f"{number}-{count}", self.counters[(number + count) % len(self.counters)])
            count += 1

    async def once(self, key: str, counter: str) -> None:
        """Send the command of ``key``; whoever hears another answer than before notes it."""
        self.sent[key] = counter
        self.sends += 1
        result = await self.engine.send(Add(counter_id=counter, amount=1), key)
        if result is None:
            return
        known = self.acknowledged.setdefault(key, result)
        if known.model_dump_json() != result.model_dump_json():
            self.differing.append(key)

    async def verify(self) -> None:
        """Every key took effect exactly once, with the answer that was given, whoever asked and how often."""
        for key, counter in list(self.sent.items()):  # whoever got no answer asks again with the same key
            if key not in self.acknowledged:
                await self.once(key, counter)
                assert key in self.acknowledged, f"no answer for {key}"
        assert self.differing == []
        expected: dict[str, int] = dict.fromkeys(self.counters, 0)
        for counter in self.sent.values():
            expected[counter] += 1
        assert {c: n for c, n in expected.items() if n} == self.engine.counters()
        # The totals that clients were told are each counter's 1..n, without repeats: one effect for each key.
        told: dict[str, list[int]] = {}
        for key, result in self.acknowledged.items():
            told.setdefault(self.sent[key], []).append(result.result["total"])
        for counter, totals in told.items():
            assert sorted(totals) == list(range(1, len(totals) + 1)), counter
