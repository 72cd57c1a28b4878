"""Rows of the engine alone: servers and one role at a time, in an installation of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Set
from dataclasses import asdict

from benchmarks import checks, limits, restart, topic, views
from benchmarks.history import keep_snapshots
from benchmarks.installation import Installation
from benchmarks.profiler import Profiler
from benchmarks.rows import COPY, PRODUCE, ROUTE, Outcome, Sizes
from benchmarks.stored import Store

Say = Callable[[str], None]
#: Offset of a port that no role uses.
_ROUTE_PORT = 950


async def measure_limits(installation: Installation) -> Outcome:
    """The three limits, on servers that have nothing else to do."""
    settings = installation.settings
    return Outcome(
        {
            COPY: await asyncio.to_thread(limits.copy_rows, settings),
            PRODUCE: await limits.produce(settings),
            ROUTE: await limits.empty_route(settings.port_base + _ROUTE_PORT),
        }
    )


async def measure(
    installation: Installation,
    groups: Set[str],
    sizes: Sizes,
    say: Say,
    profiler: Profiler | None = None,
) -> Outcome:
    """Topic, restart, verify and views, in this order; each needs the history that the first one makes."""
    found = Outcome()
    topic.migrate(installation)
    say(f"topic: {sizes.commands:,} commands, {sizes.results:,} results stored")
    run = await topic.measure(
        installation, sizes.commands, sizes.results, snapshot_every=sizes.snapshot_every, profiler=profiler
    )
    found.figures |= {
        "topic": run.figures["published_per_s"],
        "topic-committed": run.figures["committed_per_s"],
    }
    found.facts["topic"] = run.facts
    writer, sent = run.writer, run.commands
    if "restart" in groups:
        say("restart: SIGKILL, start, first commit")
        kept = keep_snapshots(installation.settings)
        first, writer = await restart.kill_and_start(installation, writer, run.books, seed=3)
        found.figures |= {"restart": first.first_commit_s, "restart-all": first.all_shards_s}
        store = Store(installation.settings)
        aside = store.set_snapshots_aside()
        second, writer = await restart.kill_and_start(installation, writer, run.books, seed=4)
        store.put_snapshots_back()
        store.close()
        found.figures["restart-replay"] = second.first_commit_s
        sent += 2 * len(run.books)
        found.facts["restart"] = {
            "shards with a snapshot": kept,
            "snapshots set aside": aside,
            "with snapshots": asdict(first),
            "without": asdict(second),
        }
    await asyncio.to_thread(writer.end)
    if "views" in groups:
        await _views(installation, found, sizes, say)
    say("checks: sums, replay, verification")
    facts = await asyncio.to_thread(
        checks.gather,
        installation,
        acknowledged=sent,
        posted_before=0,
        projection=bool(found.facts.get("views", {}).get("complete")),
        published=(run.facts["published"], run.facts["committed"]),
        services=("ledger",),
    )
    found.problems += checks.judge(facts)
    assert facts.verification is not None
    if "verify" in groups:
        found.figures |= {
            "replay": facts.replay.events / facts.replay.seconds,
            "verify": facts.verification.per_s,
        }
    found.facts["checks"] = {"engine": checks.words(facts)}
    return found


async def _views(installation: Installation, found: Outcome, sizes: Sizes, say: Say) -> None:
    say("views: the projector alone, from the first event")
    caught = await views.catch_up(installation, "projector", "ledger", window_s=sizes.window_s)
    found.figures["views"] = caught.per_s
    found.facts["views"] = caught.facts | {"complete": caught.complete, "seconds": round(caught.seconds, 2)}
    say("views: the search mirror")
    mirrored = await views.catch_up(
        installation, "search-projector", views.SEARCH_VIEW, window_s=sizes.window_s / 2
    )
    found.figures["search"] = mirrored.per_s
    found.facts["search"] = mirrored.facts | {"complete": mirrored.complete}
    if not caught.complete:
        return  # a rebuild would have the same events to take in, and no end in its window either
    say("views: rebuild beside the live version")
    begun = time.perf_counter()
    done = await asyncio.to_thread(installation.command, "projections", "rebuild", "ledger", check=False)
    took = time.perf_counter() - begun
    if done.returncode != 0:
        found.problems.append(
            f"nexafi projections rebuild ended with {done.returncode}: {done.stderr[-500:]}"
        )
        return
    found.figures["rebuild"] = caught.facts["of"] / took
    found.facts["rebuild"] = {"seconds": round(took, 2), "said": done.stdout.splitlines()[-3:]}
