"""Rows over HTTP: everything that ``./dev up`` starts runs, and the client shares the machine with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Set
from typing import Any

from benchmarks import checks, views
from benchmarks.cpu import Cpu
from benchmarks.edge import Edge
from benchmarks.installation import Installation
from benchmarks.openloop import OpenLoop
from benchmarks.payments import Payments, clean_names
from benchmarks.profiler import Profiler
from benchmarks.rows import Outcome, Sizes
from benchmarks.stats import Latencies, ratio_of_slices
from benchmarks.stored import POSTED, Store

ACCOUNTS = 1_000
CLIENTS = 128
BULK_SIZE = 1_000
BULK_CLIENTS = 8
#: Payments: so many accounts that none pays twice within seconds, which scoring would look at.
PAYMENT_ACCOUNTS = 3_000
_QUIET_TIMEOUT_S = 120.0
#: How errors of an open loop begin that say: more than can be taken.
OVERLOAD = ("NotSentError:", "UnexpectedAnswerError: 429 ")


class Traffic:
    """One run of loads against an installation."""

    def __init__(
        self,
        installation: Installation,
        sizes: Sizes,
        say: Callable[[str], None],
        profiler: Profiler | None = None,
    ) -> None:
        self.installation = installation
        self.sizes = sizes
        self.say = say
        self.profiler = profiler
        self.edge = Edge(installation.settings.data_dir)
        self.found = Outcome(facts={"cpu": {}})
        self.settled = 0

    async def measure(self, groups: Set[str]) -> Outcome:
        """All loads of ``groups``, then the checks."""
        store = Store(self.installation.settings)
        before = store.count(POSTED)
        await self.edge.prepare(PAYMENT_ACCOUNTS if groups == {"saga"} else ACCOUNTS)
        loads = {
            "one": self._one,
            "singles": self._singles,
            "bulk": self._bulk,
            "openloop": self._open_loop,
            "lag": self._lag,
            "saga": self._saga,
        }
        try:
            # A broker and a search server that started seconds ago compile their code while they serve.
            self.say("warming up")
            await self.edge.singles(CLIENTS, self.sizes.warm_s)
            for group, load in loads.items():
                if group in groups:
                    await self._quiet(store)
                    await self.edge.authorize()
                    self.say(group)
                    await load()
            await self._check(before)
        finally:
            store.close()
        return self.found

    # ------------------------------------------------------------------ loads

    async def _one(self) -> None:
        cpu = self._watch()
        _, latencies = await self.edge.singles(1, self.sizes.seconds)
        self._note("one", cpu)
        seen = Latencies.of(latencies)
        self.found.figures["one-p50"] = seen.p50_ms
        self.found.facts["one"] = seen.record()

    async def _singles(self) -> None:
        done = len(self.edge.acknowledged.bodies)
        cpu = self._watch("gateway", "ledger")
        hot, cold, seen = await self.edge.hot_and_cold(CLIENTS, self.sizes.seconds, self.sizes.slices)
        self._note("singles", cpu, len(self.edge.acknowledged.bodies) - done)
        self.found.figures |= {
            "singles": sum(cold) / len(cold),
            "singles-p50": seen.p50_ms,
            "singles-p99": seen.p99_ms,
            "hot": ratio_of_slices(hot, cold),
        }
        self.found.facts["singles"] = seen.record() | {
            "hot slices": [round(r) for r in hot],
            "cold slices": [round(r) for r in cold],
        }

    async def _bulk(self) -> None:
        await self.edge.bulks(4, BULK_SIZE, BULK_CLIENTS)
        cpu = self._watch("gateway", "ledger")
        self.found.figures["bulk"] = await self.edge.bulks(self.sizes.bulks, BULK_SIZE, BULK_CLIENTS)
        self._note("bulk", cpu, self.sizes.bulks * BULK_SIZE)

    async def _open_loop(self) -> None:
        table = self.found.facts["open loop"] = []
        for rate in self.sizes.rates:
            cpu = self._watch()
            load = await self.edge.at_rate(rate, self.sizes.rate_seconds)
            self._note(f"open loop {rate}/s", cpu)
            table.append(_open_loop_row(load))
            self._judge_load(f"open loop at {rate}/s", load)
            if not load.sustained:
                break  # a higher rate would only measure how long the queue becomes

    async def _lag(self) -> None:
        store = Store(self.installation.settings)
        names = ("ledger", views.SEARCH_VIEW)
        before = {shard: position for shard, (_, position, _) in store.heads().items()}
        cpu = self._watch()
        with views.LagSampler(self.installation.settings, names) as sampler:
            load = await self.edge.at_rate(self.sizes.lag_rate, self.sizes.rate_seconds)
            self._note("lag", cpu)
            await self._quiet(store)
        self._judge_load("lag", load)
        events = store.times(before)
        store.close()
        facts: dict[str, Any] = {"load": _open_loop_row(load)}
        for view, key in (("ledger", "lag-p99"), (views.SEARCH_VIEW, "search-lag-p99")):
            seen, unseen = views.lag(lambda shard, view=view: sampler.seen[view, shard], events)  # type: ignore[misc]
            self.found.figures[key] = seen.p99_ms
            facts[view] = seen.record()
            if unseen:
                self.found.problems.append(f"{view} never took in {unseen} of {len(events)} events")
        self.found.facts["lag"] = facts

    async def _saga(self) -> None:
        rate_count = self.sizes.payments
        if len(self.edge.accounts) < PAYMENT_ACCOUNTS:
            await self.edge.prepare(PAYMENT_ACCOUNTS)
        names, entries = await asyncio.to_thread(clean_names, rate_count * 4 + 2_000, 7)
        payments = Payments(self.edge, self.installation.settings, names)
        warm = await payments.at_once(50)
        cpu = self._watch("deciders", "sagas", "gateway", "ledger", "projections")
        run = await payments.at_once(rate_count)
        self._note("saga", cpu, rate_count)
        rate = run.per_s()
        self.found.figures["saga"] = rate
        await asyncio.sleep(1)
        seconds = min(self.sizes.rate_seconds, rate_count / max(rate, 1))
        cpu = self._watch()
        half, load = await payments.at_rate(rate / 2, seconds)
        self._note("saga at half its rate", cpu)
        self._judge_load("saga at half its rate", load)
        seen = Latencies.of(half.latencies())
        self.found.figures["saga-p99"] = seen.p99_ms
        self.found.facts["saga"] = {
            "screened against entries": entries,
            "at once": Latencies.of(run.latencies()).record() | dict(run.how),
            "half the rate": seen.record() | dict(half.how) | {"rate": round(rate / 2, 1)},
        }
        for each in (warm, run, half):
            self.settled += each.how["settled"]
            if each.missing():
                self.found.problems.append(f"{each.missing()} of {len(each.began)} payments never ended")
            if each.how["settled"] != len(each.began):
                self.found.problems.append(f"of {len(each.began)} payments ended: {dict(each.how)}")

    # ------------------------------------------------------------------ around them

    def _watch(self, *profiled: str) -> Cpu:
        pids = self.installation.pids()
        if self.profiler is not None and profiled:
            self.profiler.start({name: pids[name] for name in profiled})
        return Cpu(pids)

    def _note(self, name: str, cpu: Cpu, count: int = 0) -> None:
        """Keep the processor's shares of a load, and with ``count`` its microseconds for each of so many commands."""
        self.found.facts["cpu"][name] = cpu.shares()
        if count:
            self.found.facts.setdefault("cpu each", {})[name] = cpu.each_us(count)

    def _judge_load(self, name: str, load: OpenLoop) -> None:
        """Too much load may be refused or not sent; it shows in the table. Any other failure fails the run."""
        failed = [error for error in load.errors if not error.startswith(OVERLOAD)]
        if failed:
            self.found.problems.append(f"{name}: {len(failed)} requests failed, first: {failed[0]}")
        if load.unanswered:
            self.found.problems.append(f"{name}: {load.unanswered} requests had no answer")

    async def _quiet(self, store: Store) -> None:
        """Let the projections take in what the load before left them, so that loads do not pay for each other."""
        deadline = time.monotonic() + _QUIET_TIMEOUT_S
        for view in ("ledger", views.SEARCH_VIEW):
            left = max(0.0, deadline - time.monotonic())
            await asyncio.to_thread(checks.wait_for_view, store, view, timeout_s=left)

    async def _check(self, before: int) -> None:
        self.say("checks: sums, every acknowledged transfer, replay, projection, verification")
        acknowledged = self.edge.acknowledged
        facts = await asyncio.to_thread(
            checks.gather,
            self.installation,
            acknowledged=acknowledged.count + self.settled,
            posted_before=before,
            transactions=acknowledged.transactions(),
            projection=True,
        )
        self.found.problems += checks.judge(facts)
        self.found.facts["checks"] = {"over HTTP": checks.words(facts)}


def _open_loop_row(load: OpenLoop) -> dict[str, Any]:
    return {
        "rate": load.rate,
        "answered_per_s": round(load.answered_per_s, 1),
        "sustained": load.sustained,
        "refused_or_not_sent": len(load.errors),
        "client_late_ms": round(load.latest_send_s * 1e3, 1),
        **Latencies.of(load.latencies).record(),
    }
