"""The rows of the table: what is measured, what the project wants to reach, and which limit it is held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

MORE: Final = "more"
LESS: Final = "less"
#: Limits by which other rows are divided.
COPY: Final = "limit-copy"
PRODUCE: Final = "limit-produce"
ROUTE: Final = "limit-route"


@dataclass(frozen=True, slots=True)
class Row:
    """A figure. ``group`` is what ``--only`` names; ``of`` is the key of the limit of its ratio."""

    key: str
    group: str
    work: str
    unit: str
    wanted: float | None = None
    better: Literal["more", "less"] = "more"
    of: str | None = None

    def reached(self, value: float) -> bool | None:
        """Whether ``value`` is what is wanted; ``None`` where nothing is."""
        if self.wanted is None:
            return None
        return value >= self.wanted if self.better == MORE else value <= self.wanted


ROWS: Final[tuple[Row, ...]] = (
    Row("singles", "singles", "single transfers, 128 clients", "/s", 3_000, "more", ROUTE),
    Row("singles-p50", "singles", "single transfers, 128 clients, p50", "ms"),
    Row("singles-p99", "singles", "single transfers, 128 clients, p99", "ms", 100, "less"),
    Row("one-p50", "one", "one client, one after another, p50", "ms", 8, "less"),
    Row("hot", "singles", "hot account / 1,000 accounts, in turn", "ratio", 0.95),
    Row("bulk", "bulk", "bulks of 1,000 over HTTP, committed", "transfers/s", 30_000, "more", COPY),
    Row("topic", "topic", "commands in Kafka to published events", "/s", 40_000, "more", COPY),
    Row("topic-of-copy", "topic", "the same, of the COPY limit", "ratio", 0.2),
    Row("topic-committed", "topic", "commands in Kafka to committed events", "/s", None, "more", COPY),
    Row("saga", "saga", "whole payments, end to end", "/s", 300),
    Row("saga-p99", "saga", "whole payments at half that rate, p99", "ms", 1_500, "less"),
    Row("views", "views", "projection into PostgreSQL", "events/s", 15_000, "more", COPY),
    Row("rebuild", "views", "rebuild of the ledger view", "events/s", 15_000, "more", COPY),
    Row("search", "views", "mirror into Elasticsearch", "events/s", 5_000),
    Row("lag-p99", "lag", "projection lag at 1,000 transfers/s, p99", "ms", 500, "less"),
    Row("search-lag-p99", "lag", "search lag at 1,000 transfers/s, p99", "ms"),
    Row("restart", "restart", "writer killed, to the next commit", "s", 5, "less"),
    Row("restart-all", "restart", "the same, every shard back", "s"),
    Row("restart-replay", "restart", "the same without snapshots", "s"),
    Row("replay", "verify", "replay of the ledger", "events/s", 100_000),
    Row("verify", "verify", "nexafi audit verify", "events/s", 100_000),
    Row(COPY, "limits", "limit: COPY of the same rows", "rows/s"),
    Row(PRODUCE, "limits", "limit: Kafka produce of such events", "records/s"),
    Row(ROUTE, "limits", "limit: empty FastAPI route", "/s"),
)
GROUPS: Final = tuple(dict.fromkeys([*(row.group for row in ROWS), "openloop"]))
#: Need the servers and one role at a time.
ENGINE: Final = frozenset({"topic", "restart", "verify", "views"})
#: Need everything that ``./dev up`` starts.
EDGE: Final = frozenset({"one", "singles", "bulk", "openloop", "lag", "saga"})


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything. ``slices`` pairs of ``seconds`` each make the rows of single transfers."""

    commands: int = 1_000_000
    results: int = 5_000_000
    snapshot_every: int = 100_000
    seconds: float = 5.0
    slices: int = 3
    bulks: int = 150
    payments: int = 3_000
    rates: tuple[int, ...] = (250, 500, 1_000, 1_500, 2_000, 2_500, 3_000)
    rate_seconds: float = 10.0
    lag_rate: int = 1_000
    warm_s: float = 30.0
    window_s: float = 240.0


FULL: Final = Sizes()
QUICK: Final = Sizes(
    commands=100_000,
    results=500_000,
    snapshot_every=10_000,
    seconds=2.0,
    slices=2,
    bulks=30,
    payments=500,
    rates=(250, 1_000),
    rate_seconds=5.0,
    warm_s=15.0,
    window_s=60.0,
)


@dataclass
class Outcome:
    """Figures by key, what explains them, and what is wrong (then no figure counts)."""

    figures: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Take in what another part found."""
        self.figures |= other.figures
        self.facts |= other.facts
        self.problems += other.problems
