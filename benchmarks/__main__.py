"""``./dev bench``: measure a running installation, then check that no money was lost and history still verifies.

Needs ``./dev up``. Everything, the client included, runs on this machine, so figures are only worth something beside
the limits that were measured in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks import limits
from benchmarks.edge import Bench
from cli.stack.paths import Layout
from nexafi.settings import Settings

#: Work -> (unit, what the project wants to reach).
TARGETS: dict[str, tuple[str, float | None]] = {
    "single transfers, 128 clients": ("/s", 3_000),
    "single transfers, 128 clients, p99": ("ms", 100),
    "one client, p50": ("ms", 8),
    "hot account / 1,000 accounts": ("ratio", 0.95),
    "bulks of 1,000 over HTTP": ("transfers/s", 30_000),
    "payment saga, end to end": ("/s", 300),
    "payment saga at 150/s, p99": ("ms", 1_500),
    "verify and replay": ("events/s", 100_000),
    "limit: COPY of event rows": ("rows/s", None),
    "limit: Kafka produce": ("records/s", None),
    "limit: empty FastAPI route": ("/s", None),
}


async def measure(bench: Bench, settings: Settings, seconds: float) -> dict[str, float]:
    """All figures, by the names of :data:`TARGETS`."""
    figures: dict[str, float] = {
        "limit: COPY of event rows": await asyncio.to_thread(limits.copy_rows, settings),
        "limit: Kafka produce": await limits.produce(settings),
        "limit: empty FastAPI route": await limits.empty_route(settings.port_base + 950),
    }
    await bench.prepare(1_000)
    figures["one client, p50"] = (await bench.singles(1, seconds / 2, name="one"))["p50_ms"]
    cold = await bench.singles(128, seconds, name="cold")
    hot = await bench.singles(128, seconds, hot=True, name="hot")
    figures["single transfers, 128 clients"] = cold["per_s"]
    figures["single transfers, 128 clients, p99"] = cold["p99_ms"]
    figures["hot account / 1,000 accounts"] = hot["per_s"] / cold["per_s"]
    figures["bulks of 1,000 over HTTP"] = (await bench.bulks(80, 1_000, 8))["transfers_per_s"]
    paid = await bench.payments(400, seconds)
    figures["payment saga, end to end"] = paid["per_s"]
    figures["payment saga at 150/s, p99"] = (await bench.payments(150, seconds))["p99_ms"]
    return figures


def conserved(bench: Bench) -> bool:
    """Debits equal credits in the ledger that was loaded, and every answered transfer is in it."""
    headers = {"authorization": f"Bearer {bench.token}"}
    deadline = time.monotonic() + 120
    while True:
        answer = httpx.get(
            f"{bench.url}/v1/ledgers/{bench.ledger}/trial-balance", headers=headers, timeout=30
        )
        euro = answer.json()["currencies"][0]
        if euro["entries"] >= 2 * bench.posted or time.monotonic() > deadline:
            break
        time.sleep(1)
    balanced: bool = euro["posted_debit"] == euro["posted_credit"] and euro["entries"] >= 2 * bench.posted
    return balanced


def verified() -> tuple[bool, float]:
    """Whether every store verifies, and the events a second at which the ledger's did."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "cli", "audit", "verify", "--json"]
    ledger = subprocess.run([*command, "--service", "ledger"], capture_output=True, text=True, check=False)
    took = time.perf_counter() - begun
    events = sum(json.loads(line)["events"] for line in ledger.stdout.splitlines())
    whole = subprocess.run(command, capture_output=True, text=True, check=False)
    return whole.returncode == 0, events / took


def main() -> int:
    """Measure, check, print, and write ``benchmarks/results/<time>.json``. Exit 1 when a check fails."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="Length of each load.")
    options = parser.parse_args()
    console = Console(highlight=False)
    data_dir = Layout.here().root
    if not (data_dir / "credentials.json").exists():
        console.print("Nothing to measure: start the platform with ./dev up first.")
        return 2
    settings, bench = Settings(data_dir=data_dir), Bench(data_dir)
    try:
        figures = asyncio.run(measure(bench, settings, options.seconds))
    except (OSError, httpx.HTTPError) as error:
        console.print(f"The platform does not answer ({error}): is ./dev up running?")
        return 2
    balanced = conserved(bench)
    sound, figures["verify and replay"] = verified()
    table = Table("work", "measured", "unit", "wanted", "of COPY", box=None)
    copy = figures["limit: COPY of event rows"]
    for name, (unit, wanted) in TARGETS.items():
        value = figures[name]
        share = f"{value / copy:.3f}" if unit.endswith("/s") else ""
        table.add_row(
            name,
            f"{value:,.2f}" if value < 100 else f"{value:,.0f}",
            unit,
            f"{wanted:,}" if wanted else "",
            share,
        )
    console.print(table)
    console.print(f"money conserved: {balanced}; every store verifies: {sound}")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    record: dict[str, Any] = {
        "time": time.time(),
        "figures": figures,
        "conserved": balanced,
        "verified": sound,
    }
    (results / f"{int(time.time())}.json").write_text(json.dumps(record, indent=2) + "\n")
    return 0 if balanced and sound else 1


if __name__ == "__main__":
    sys.exit(main())
