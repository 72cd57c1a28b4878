"""The features of a payment: what is known the moment it is scored, all integers, each with a unit.

They are computed from the memory of one shard (:class:`Memory`) before the payment is taken in. The shard follows the payer's
account, so what is said of a payer is complete; a device or a beneficiary is seen with the payments of this shard only.
A feature that can not be told is absent; it is never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from xxhash import xxh64_intdigest

from schemas.common.money import EXPONENTS
from services.ai.fixed_point import SATURATED, ratio_bp, saturate
from services.ai.profiles import (
    DAY_US,
    HOUR_US,
    MAX_POPULATIONS,
    SECOND_US,
    WINDOWS,
    History,
    Parties,
    Profile,
    Seen,
)

#: Amounts of assets with more decimal places than this are cut: 18 places of one ether do not fit 64 bits.
MAX_EXPONENT: Final = 6
#: Amounts of a payer say something from this many on; those of a tenant from the second figure on.
MIN_HISTORY: Final = 3
MIN_POPULATION: Final = 50
#: Payments of earlier days by which a burst is measured.
MIN_USUAL: Final = 3
USUAL_DAYS: Final = 6
MAX_RATIO_BP: Final = 10**9
MAX_DEVIATION_CENTI: Final = 10_000
NIGHT_HOURS_UTC: Final = 5

_SUBJECTS: Final = {
    "payer": "from the payer's account",
    "device": "from the device",
    "payee": "to the beneficiary",
}
_WINDOW_FEATURES: Final = {
    f"{subject}_{what}_{window.name}": f"{unit} {_SUBJECTS[subject]} in the last {window.name}, before this one"
    for subject in _SUBJECTS
    for window in WINDOWS
    for what, unit in (("count", "payments"), ("amount", "sum in scaled minor units of payments"))
}
#: Name -> unit. Additions are free; a name never changes its meaning, since events and models refer to it.
FEATURES: Final[dict[str, str]] = {
    **_WINDOW_FEATURES,
    "amount": "scaled minor units of this payment",
    "amount_to_mean_bp": "this amount over the payer's mean, in bp; absent below 3 payments",
    "amount_deviation_centi": "distance from the payer's mean log amount, in hundredths of its spread; absent below 3 payments",
    "amount_tenant_deviation_centi": "the same against all payments of the tenant in the currency; absent below 50 payments",
    "payer_burst_bp": "payments of this hour over the payer's daily mean of the six days before this one, in bp; absent below 3",
    "payer_history": "payments in the payer's history of amounts",
    "payer_is_new": "1 when nothing is remembered of the payer",
    "payer_age_s": "seconds since the payer was first seen; absent when new",
    "payer_since_last_s": "seconds since the payer's last payment; absent when new",
    "payee_is_new": "1 when the payer is not known to have paid this beneficiary more than 24 hours ago",
    "device_is_new": "1 when the payer first used this device in the last 24 hours and another before; absent without a device",
    "payer_payees_24h": "different beneficiaries that the payer paid in the last 24 hours, at most 128",
    "payer_new_payees_24h": "of these, how many the payer is not known to have paid earlier; absent when the payer is new today",
    "device_payers_24h": "different payers seen with the device in the last 24 hours, at most 128; absent without a device",
    "payee_payers_24h": "different payers that paid the beneficiary in the last 24 hours, at most 128",
    "is_night": "1 from 00:00 to 05:00 UTC",
}


class Subject(NamedTuple):
    """A payment, as far as features need it. ``tenant`` keeps devices of two tenants apart."""

    tenant: str
    payer: str
    payee: str
    device: str | None
    amount: int
    currency: str


@dataclass(slots=True)
class Memory:
    """The memory of one shard. Keys carry the currency, so amounts of two currencies are never added."""

    payers: Parties = field(default_factory=Parties)
    devices: Parties = field(default_factory=Parties)
    payees: Parties = field(default_factory=Parties)
    populations: dict[str, History] = field(default_factory=dict)

    def rows(self) -> list[Any]:
        """For a snapshot; order is part of the state."""
        parties = [list(each.rows()) for each in (self.payers, self.devices, self.payees)]
        return [*parties, [[key, history.row()] for key, history in self.populations.items()]]

    @classmethod
    def read(cls, rows: list[Any]) -> Memory:
        """Inverse of :meth:`rows`."""
        payers, devices, payees, populations = rows
        return cls(
            Parties(payers), Parties(devices), Parties(payees), {k: History(*v) for k, v in populations}
        )


def scaled_amount(amount: int, currency: str) -> int:
    """Minor units, cut to six decimal places and 62 bits."""
    excess = EXPONENTS.get(currency, 0) - MAX_EXPONENT
    return saturate(amount // 10**excess if excess > 0 else amount)


def take_in(memory: Memory, s: Subject, time_us: int, *, allowed: bool) -> None:
    """A payment was scored at ``time_us``. All are attempts and count; only an allowed one becomes a habit."""
    amount = scaled_amount(s.amount, s.currency)
    payer_id, payee_id = _short(s.payer), _short(s.payee)
    payer = memory.payers.touch(f"{s.payer}/{s.currency}", time_us)
    payer.add(amount, time_us)
    payer.others.note(payee_id, time_us)
    payee = memory.payees.touch(f"{s.payee}/{s.currency}", time_us)
    payee.add(amount, time_us)
    payee.others.note(payer_id, time_us)
    if s.device is not None:
        payer.devices.note(_short(s.device), time_us)
        device = memory.devices.touch(_device_key(s), time_us)
        device.add(amount, time_us)
        device.others.note(payer_id, time_us)
    if allowed:
        payer.history.add(amount)
        key = f"{s.tenant}/{s.currency}"
        population = memory.populations.pop(key, None) or History()
        population.add(amount)
        memory.populations[key] = population
        if len(memory.populations) > MAX_POPULATIONS:
            del memory.populations[next(iter(memory.populations))]


def features_of(memory: Memory, s: Subject, now_us: int) -> dict[str, int]:
    """The feature snapshot of a payment that is scored now. Does not change ``memory``."""
    amount = scaled_amount(s.amount, s.currency)
    payer = memory.payers.get(f"{s.payer}/{s.currency}")
    payee = memory.payees.get(f"{s.payee}/{s.currency}")
    day_ago = now_us - DAY_US
    out = {
        "amount": amount,
        "payer_is_new": int(payer is None),
        "payee_is_new": int(payer is None or _is_new(payer.others, _short(s.payee), day_ago)),
        "payer_payees_24h": payer.others.last_since(day_ago) if payer else 0,
        "payee_payers_24h": payee.others.last_since(day_ago) if payee else 0,
        "is_night": int(now_us % DAY_US < NIGHT_HOURS_UTC * HOUR_US),
    }
    _windows(out, "payer", payer, now_us)
    _windows(out, "payee", payee, now_us)
    if s.device is not None:
        device = memory.devices.get(_device_key(s))
        _windows(out, "device", device, now_us)
        out["device_payers_24h"] = device.others.last_since(day_ago) if device else 0
        out["device_is_new"] = int(
            payer is not None
            and payer.devices.first_before(day_ago)
            and _is_new(payer.devices, _short(s.device), day_ago)
        )
    if payer is not None:
        _habits(out, payer, amount, now_us)
    population = memory.populations.get(f"{s.tenant}/{s.currency}")
    if population is not None and population.count >= MIN_POPULATION:
        out["amount_tenant_deviation_centi"] = _bounded(population.deviation_centi(amount))
    return out


def _habits(out: dict[str, int], payer: Profile, amount: int, now_us: int) -> None:
    history = payer.history
    if payer.first_us < now_us - DAY_US:
        out["payer_new_payees_24h"] = payer.others.first_since(now_us - DAY_US)
    out["payer_history"] = history.count
    out["payer_age_s"] = (now_us - payer.first_us) // SECOND_US
    out["payer_since_last_s"] = (now_us - payer.last_us) // SECOND_US
    if history.count >= MIN_HISTORY:
        out["amount_to_mean_bp"] = ratio_bp(amount, history.mean, MAX_RATIO_BP)
        out["amount_deviation_centi"] = _bounded(history.deviation_centi(amount))
    usual = out["payer_count_7d"] - out["payer_count_24h"]
    if usual >= MIN_USUAL:
        out["payer_burst_bp"] = ratio_bp(out["payer_count_1h"] * USUAL_DAYS, usual, MAX_RATIO_BP)


def _windows(out: dict[str, int], subject: str, profile: Profile | None, now_us: int) -> None:
    for number, shape in enumerate(WINDOWS):
        count, amount = profile.count_and_amount(number, now_us) if profile else (0, 0)
        out[f"{subject}_count_{shape.name}"] = count
        out[f"{subject}_amount_{shape.name}"] = amount


def _is_new(seen: Seen, identifier: int, since_us: int) -> bool:
    first = seen.first_us(identifier)
    return first is None or first >= since_us


def _bounded(centi: int) -> int:
    return max(-MAX_DEVIATION_CENTI, min(MAX_DEVIATION_CENTI, centi))


def _short(identifier: str) -> int:
    """62 bits for an id: what is remembered of it is whether it was seen."""
    return xxh64_intdigest(identifier.encode()) & (SATURATED - 1)


def _device_key(s: Subject) -> str:
    return f"{s.tenant}/{s.device}/{s.currency}"
