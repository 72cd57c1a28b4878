"""Streaming features: what the recent past of a payer, a device and a beneficiary says about a payment.

All integers, derived from events alone, bounded in memory: of each party the last :data:`MAX_POINTS` payments of
seven days are kept, and of each kind the :data:`MAX_PARTIES` parties that were seen last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

MINUTE_US: Final = 60_000_000
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US
WEEK_US: Final = 7 * DAY_US
MAX_POINTS: Final = 64
MAX_PARTIES: Final = 50_000
#: Ratios above this say nothing more.
MAX_RATIO_BP: Final = 10_000_000

#: Name -> unit; the order is the order of the model's input.
FEATURES: Final[dict[str, str]] = {
    "payer_count_1m": "payments of the payer in the last minute",
    "payer_count_1h": "payments of the payer in the last hour",
    "payer_count_24h": "payments of the payer in the last 24 hours",
    "payer_count_7d": "payments of the payer in the last 7 days",
    "amount_ratio_bp": "amount over the payer's mean amount of 7 days, in basis points (10000 without history)",
    "day_amount_ratio_bp": "amount of 24 hours with this payment over the mean amount, in basis points",
    "first_beneficiary": "1 when the payer has not paid this beneficiary in 7 days",
    "distinct_beneficiaries_24h": "beneficiaries that the payer paid in the last 24 hours",
    "device_count_1h": "payments from the device in the last hour",
    "device_payers_24h": "payers that used the device in the last 24 hours",
    "beneficiary_count_1h": "payments to the beneficiary in the last hour",
    "beneficiary_payers_24h": "payers that paid the beneficiary in the last 24 hours",
    "seconds_since_last": "seconds since the payer's last payment (604800 without one)",
    "night": "1 between 00:00 and 05:00 UTC",
    "new_payer": "1 when the payer has no payment in 7 days",
    "amount_bits": "length of the amount in bits",
}


class Point(NamedTuple):
    """One payment in a party's past; ``other`` is the beneficiary, or the payer."""

    time_us: int
    amount: int
    other: str


@dataclass(slots=True)
class Pasts:
    """The pasts of one kind of party, the one seen last at the end."""

    points: dict[str, list[Point]] = field(default_factory=dict)

    def note(self, party: str, point: Point) -> None:
        """Add a payment; forget what is older than a week or beyond the bounds."""
        past = [p for p in self.points.pop(party, ()) if p.time_us > point.time_us - WEEK_US]
        past.append(point)
        self.points[party] = past[-MAX_POINTS:]
        if len(self.points) > MAX_PARTIES:
            del self.points[next(iter(self.points))]

    def of(self, party: str, now_us: int) -> list[Point]:
        """The payments of the last week."""
        return [p for p in self.points.get(party, ()) if p.time_us > now_us - WEEK_US]

    def rows(self) -> list[Any]:
        """For a snapshot; the order of the parties is part of the state."""
        return [[k, [[p.time_us, str(p.amount), p.other] for p in v]] for k, v in self.points.items()]

    @classmethod
    def read(cls, rows: Iterable[Any]) -> Pasts:
        """Inverse of :meth:`rows`."""
        return cls({k: [Point(t, int(a), o) for t, a, o in v] for k, v in rows})


@dataclass(slots=True)
class Window:
    """The streaming state of one shard."""

    payers: Pasts = field(default_factory=Pasts)
    devices: Pasts = field(default_factory=Pasts)
    beneficiaries: Pasts = field(default_factory=Pasts)

    def note(self, payer: str, payee: str, device: str | None, amount: int, time_us: int) -> None:
        """Take a payment in, after it was scored."""
        self.payers.note(payer, Point(time_us, amount, payee))
        self.beneficiaries.note(payee, Point(time_us, amount, payer))
        if device is not None:
            self.devices.note(device, Point(time_us, amount, payer))

    def features(
        self, payer: str, payee: str, device: str | None, amount: int, now_us: int
    ) -> dict[str, int]:
        """The features of a payment at ``now_us``, before it is taken in."""
        mine = self.payers.of(payer, now_us)
        theirs = self.beneficiaries.of(payee, now_us)
        shared = self.devices.of(device, now_us) if device is not None else []
        mean = sum(p.amount for p in mine) // len(mine) if mine else amount
        day = [p for p in mine if p.time_us > now_us - DAY_US]
        return {
            "payer_count_1m": _count(mine, now_us - MINUTE_US),
            "payer_count_1h": _count(mine, now_us - HOUR_US),
            "payer_count_24h": len(day),
            "payer_count_7d": len(mine),
            "amount_ratio_bp": _ratio(amount, mean),
            "day_amount_ratio_bp": _ratio(sum(p.amount for p in day) + amount, mean),
            "first_beneficiary": int(all(p.other != payee for p in mine)),
            "distinct_beneficiaries_24h": len({p.other for p in day}),
            "device_count_1h": _count(shared, now_us - HOUR_US),
            "device_payers_24h": len({p.other for p in shared if p.time_us > now_us - DAY_US}),
            "beneficiary_count_1h": _count(theirs, now_us - HOUR_US),
            "beneficiary_payers_24h": len({p.other for p in theirs if p.time_us > now_us - DAY_US}),
            "seconds_since_last": (now_us - mine[-1].time_us) // 1_000_000 if mine else WEEK_US // 1_000_000,
            "night": int(now_us % DAY_US < 5 * HOUR_US),
            "new_payer": int(not mine),
            "amount_bits": amount.bit_length(),
        }


def _count(points: list[Point], after_us: int) -> int:
    return sum(p.time_us > after_us for p in points)


def _ratio(value: int, base: int) -> int:
    return min(MAX_RATIO_BP, value * 10_000 // max(1, base))
