"""What one shard remembers of payers, devices and beneficiaries: bounded, made of integers, the same after a replay.

* Velocity is kept in ring buckets: of each window the last :attr:`WindowShape.buckets` slots of
  :attr:`WindowShape.width_us`, by the clock and not by the first payment. A window of "one minute" therefore reaches
  back between 50 and 60 seconds.
* History is kept as sums of amounts and of their logarithms; when :data:`MAX_HISTORY` payments are in, all sums are halved,
  so old habits fade.
* Of each kind of party the :data:`MAX_PARTIES` that were seen last are kept; the order of their last payments is part
  of the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import isqrt
from typing import Any, Final, NamedTuple

from services.ai.fixed_point import LOG_ONE, log2_q8, saturate

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

MAX_PARTIES: Final = 20_000
MAX_POPULATIONS: Final = 1_024
#: Counterparties remembered of one party; counts of different ones stop here.
MAX_OTHERS: Final = 128
MAX_HISTORY: Final = 1_024
_EPOCH_S: Final = 1_577_836_800
#: A spread below half a doubling is taken for half a doubling: who always pays the same amount may pay a little more.
LEAST_SPREAD_Q8: Final = LOG_ONE // 2


class WindowShape(NamedTuple):
    """A window in ring buckets."""

    name: str
    width_us: int
    buckets: int


WINDOWS: Final = (
    WindowShape("1m", 10 * SECOND_US, 6),
    WindowShape("1h", 5 * MINUTE_US, 12),
    WindowShape("24h", HOUR_US, 24),
    WindowShape("7d", 6 * HOUR_US, 28),
)


@dataclass(slots=True)
class History:
    """Amounts so far: count, sum, and sum and sum of squares of their base-2 logarithms (eight fractional bits)."""

    count: int = 0
    total: int = 0
    logs: int = 0
    squares: int = 0

    def add(self, amount: int) -> None:
        """Take an amount in; at :data:`MAX_HISTORY` everything is halved first."""
        if self.count >= MAX_HISTORY:
            self.count //= 2
            self.total //= 2
            self.logs //= 2
            self.squares //= 2
        log = log2_q8(amount)
        self.count += 1
        self.total = saturate(self.total + amount)
        self.logs += log
        self.squares += log * log

    @property
    def mean(self) -> int:
        """Mean amount, rounded down; 0 without history."""
        return self.total // self.count if self.count else 0

    def deviation_centi(self, amount: int) -> int:
        """How far ``amount`` is from the mean logarithm, in hundredths of the spread; ``count`` must not be 0."""
        n = self.count
        variance = max(0, n * self.squares - self.logs * self.logs)  # times n squared
        spread = max(LEAST_SPREAD_Q8 * n, isqrt(variance))
        return (log2_q8(amount) * n - self.logs) * 100 // spread

    def row(self) -> list[int]:
        """For a snapshot."""
        return [self.count, self.total, self.logs, self.squares]


class Seen:
    """Ids with the second each was first and last seen, the one seen last at the end; bounded.

    Both times are in one integer, which halves what a counterparty costs.
    """

    __slots__ = ("_times",)

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._times: dict[int, int] = dict(pairs)

    def __len__(self) -> int:
        return len(self._times)

    def note(self, identifier: int, time_us: int) -> None:
        """Seen now; who was seen longest ago is forgotten when there are too many."""
        now = _seconds(time_us)
        first = self._times.pop(identifier, now << 32) >> 32
        self._times[identifier] = first << 32 | now
        if len(self._times) > MAX_OTHERS:
            del self._times[next(iter(self._times))]

    def first_us(self, identifier: int) -> int | None:
        """When it was first seen (to the second), or ``None``."""
        times = self._times.get(identifier)
        return None if times is None else ((times >> 32) + _EPOCH_S) * SECOND_US

    def last_since(self, since_us: int) -> int:
        """How many were seen at or after ``since_us``."""
        since = _seconds(since_us)
        return sum(times & 0xFFFFFFFF >= since for times in self._times.values())

    def first_since(self, since_us: int) -> int:
        """How many were seen for the first time at or after ``since_us``."""
        since = _seconds(since_us)
        return sum(times >> 32 >= since for times in self._times.values())

    def first_before(self, before_us: int) -> bool:
        """Whether any was seen before ``before_us``."""
        before = _seconds(before_us)
        return any(times >> 32 < before for times in self._times.values())

    def row(self) -> list[tuple[int, int]]:
        """For a snapshot, in order."""
        return list(self._times.items())


def _seconds(time_us: int) -> int:
    """Whole seconds since 2020, never negative."""
    return max(0, time_us // SECOND_US - _EPOCH_S)


@dataclass(slots=True)
class Profile:
    """One payer account, device or beneficiary, with the counterparties and (of a payer) the devices it was seen with."""

    first_us: int
    last_us: int
    windows: tuple[list[int], ...] = field(default_factory=lambda: tuple([] for _ in WINDOWS))
    history: History = field(default_factory=History)
    others: Seen = field(default_factory=Seen)
    devices: Seen = field(default_factory=Seen)

    def add(self, amount: int, time_us: int) -> None:
        """A payment at ``time_us``; buckets that no window can reach any more are dropped."""
        self.last_us = time_us
        for shape, slots in zip(WINDOWS, self.windows, strict=True):
            at = time_us // shape.width_us
            if slots and slots[-3] == at:
                slots[-2] += 1
                slots[-1] = saturate(slots[-1] + amount)
            else:
                slots.extend((at, 1, amount))
                expired = at - shape.buckets
                if slots[0] <= expired:
                    del slots[: 3 * sum(index <= expired for index in slots[::3])]

    def count_and_amount(self, window: int, now_us: int) -> tuple[int, int]:
        """Payments and their sum in a window that ends now."""
        shape, slots = WINDOWS[window], self.windows[window]
        expired = now_us // shape.width_us - shape.buckets
        count = amount = 0
        for i in range(0, len(slots), 3):
            if slots[i] > expired:
                count += slots[i + 1]
                amount += slots[i + 2]
        return count, saturate(amount)

    def row(self) -> list[Any]:
        """For a snapshot."""
        seen = (self.others.row(), self.devices.row())
        return [self.first_us, self.last_us, list(self.windows), self.history.row(), *seen]

    @classmethod
    def read(cls, row: list[Any]) -> Profile:
        """Inverse of :meth:`row`."""
        first, last, windows, history, others, devices = row
        return cls(first, last, tuple(windows), History(*history), Seen(others), Seen(devices))


class Parties:
    """Profiles of one kind, the one that was seen last at the end."""

    __slots__ = ("_limit", "_profiles")

    def __init__(self, rows: Iterable[list[Any]] = (), limit: int = MAX_PARTIES) -> None:
        self._profiles: dict[str, Profile] = {key: Profile.read(row) for key, row in rows}
        self._limit = limit

    def __len__(self) -> int:
        return len(self._profiles)

    def get(self, key: str) -> Profile | None:
        """The profile of a party, if it is remembered."""
        return self._profiles.get(key)

    def touch(self, key: str, time_us: int) -> Profile:
        """The profile of a party that is seen now, new or moved to the end; the oldest goes when there are too many."""
        profile = self._profiles.pop(key, None) or Profile(time_us, time_us)
        self._profiles[key] = profile
        if len(self._profiles) > self._limit:
            del self._profiles[next(iter(self._profiles))]
        return profile

    def rows(self) -> Iterator[list[Any]]:
        """For a snapshot, in order."""
        for key, profile in self._profiles.items():
            yield [key, profile.row()]
