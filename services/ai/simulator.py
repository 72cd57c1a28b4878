"""A seeded world of payers, good and bad, to fit the baseline model on.

It is made up: what it knows of fraud is what is written here. It exists so that the model's place, its file and its path
through the system are real; nothing about real payments follows from it.

Good: customers who pay a circle of people and shops, now and then something large; employers who pay their staff in bulk
without a device; platforms that pay out all day; shops that hundreds pay; all of them around the clock of the world. Bad: a
taken-over account that is emptied to somebody new; a device that tries one account, or one card behind freshly opened
accounts, after another; money of many victims sent to one mule; an account whose API key was stolen.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from services.ai.profiles import DAY_US, HOUR_US, MINUTE_US, SECOND_US

START_US: Final = 1_767_225_600_000_000
DAYS: Final = 28
CUSTOMERS: Final = 500
EMPLOYERS: Final = 40
PLATFORMS: Final = 6
SHOPS: Final = 60
#: Two shops that everybody knows: hundreds pay them in a day, many for the first time.
BIG_SHOPS: Final = ("shop-big-0", "shop-big-1")
FRAUDS_A_DAY: Final = 5
#: Nothing bad happens before this day, so that there is a past to compare with.
FIRST_FRAUD_DAY: Final = 7


class Simulated(NamedTuple):
    """A payment of the simulation; ``kind`` is empty for a good one."""

    time_us: int
    payer: str
    payee: str
    device: str | None
    amount: int
    kind: str


class Customer(NamedTuple):
    """A payer with habits; amounts are log-normal."""

    name: str
    log_mean: float
    log_spread: float
    rate: float
    noon_us: int
    circle: list[str]
    first_day: int


def simulate(seed: int) -> list[Simulated]:
    """Four weeks of payments in order of time; the same for the same seed and version of numpy."""
    draw = np.random.default_rng(seed)
    customers = [_customer(draw, n) for n in range(CUSTOMERS)]
    rows = [row for each in customers for row in _living(draw, each)]
    rows += [row for n in range(EMPLOYERS) for row in _employing(draw, n)]
    rows += [row for n in range(PLATFORMS) for row in _paying_out(draw, n)]
    for day in range(FIRST_FRAUD_DAY, DAYS):
        for number in range(FRAUDS_A_DAY):
            scheme = int(draw.choice(len(_SCHEMES), p=_SHARES))
            rows += _SCHEMES[scheme](draw, customers, day, f"{day}-{number}")
    return sorted(rows, key=lambda row: (row.time_us, row.payer, row.payee))


def _customer(draw: np.random.Generator, n: int) -> Customer:
    shops = [f"shop{draw.integers(SHOPS)}" for _ in range(draw.integers(2, 7))]
    friends = [f"friend{n}-{i}" for i in range(draw.integers(2, 8))]
    late = draw.random() < 0.4
    return Customer(
        f"customer{n}",
        float(draw.normal(8.2, 0.9)),
        float(draw.uniform(0.4, 0.9)),
        float(draw.uniform(0.2, 2.5)),
        int(draw.integers(24)) * HOUR_US,
        shops + friends,
        int(draw.integers(1, DAYS)) if late else 0,
    )


def _amount(draw: np.random.Generator, log_mean: float, log_spread: float) -> int:
    return max(50, int(np.exp(draw.normal(log_mean, log_spread))))


def _living(draw: np.random.Generator, who: Customer) -> list[Simulated]:
    rows = []
    phones = [f"phone-{who.name}"]
    for day in range(who.first_day, DAYS):
        if draw.random() < 0.008:
            phones = [f"phone-{who.name}-{day}"]
        for _ in range(draw.poisson(who.rate)):
            time = START_US + day * DAY_US + (who.noon_us + int(draw.normal(1, 4) * HOUR_US)) % DAY_US
            payee = _payee(draw, who)
            large = draw.random() < 0.01
            amount = _amount(draw, who.log_mean + (2.5 if large else 0), who.log_spread)
            device = phones[-1] if draw.random() < 0.9 else None
            rows.append(Simulated(time, who.name, payee, device, amount, ""))
    return rows


def _payee(draw: np.random.Generator, who: Customer) -> str:
    chance = draw.random()
    if chance < 0.3:
        return BIG_SHOPS[int(draw.integers(len(BIG_SHOPS)))]
    if chance < 0.87:
        return who.circle[int(draw.integers(len(who.circle)))]
    return f"shop{draw.integers(SHOPS * 20)}"


def _employing(draw: np.random.Generator, n: int) -> list[Simulated]:
    staff = int(draw.integers(8, 150))
    log_mean = float(draw.normal(12.3, 0.3))
    rows = []
    for day in range(int(draw.integers(0, 14)), DAYS, int(draw.choice([7, 14]))):
        time = START_US + day * DAY_US + int(draw.integers(8, 17)) * HOUR_US
        gap = int(draw.integers(1, 4)) * SECOND_US // 2
        rows += [
            Simulated(time + i * gap, f"employer{n}", f"staff{n}-{i}", None, _amount(draw, log_mean, 0.3), "")
            for i in range(staff)
        ]
    for day in range(DAYS):
        for _ in range(draw.poisson(0.8)):
            time = START_US + day * DAY_US + int(draw.integers(8, 18)) * HOUR_US
            payee = f"supplier{n}-{draw.integers(12)}"
            rows.append(Simulated(time, f"employer{n}", payee, None, _amount(draw, 11.0, 1.0), ""))
    return rows


def _paying_out(draw: np.random.Generator, n: int) -> list[Simulated]:
    rows = []
    for day in range(DAYS):
        for _ in range(draw.poisson(120)):
            time = START_US + day * DAY_US + int(draw.integers(DAY_US))
            payee = f"seller{n}-{draw.integers(600)}"
            rows.append(Simulated(time, f"platform{n}", payee, None, _amount(draw, 8.5, 0.9), ""))
    return rows


def _victim(draw: np.random.Generator, customers: list[Customer], day: int) -> Customer:
    old = [each for each in customers if each.first_day < day]
    return old[int(draw.integers(len(old)))]


def _begin(draw: np.random.Generator, day: int) -> int:
    hour = int(draw.integers(0, 6)) if draw.random() < 0.5 else int(draw.integers(6, 24))
    return START_US + day * DAY_US + hour * HOUR_US + int(draw.integers(HOUR_US))


def _takeover(draw: np.random.Generator, customers: list[Customer], day: int, tag: str) -> list[Simulated]:
    victim, time = _victim(draw, customers, day), _begin(draw, day)
    device = f"thief-{tag}" if draw.random() < 0.8 else None
    return [
        Simulated(
            time + i * int(draw.integers(MINUTE_US, 6 * MINUTE_US)),
            victim.name,
            f"drop-{tag}-{i % 2}",
            device,
            _amount(draw, victim.log_mean + draw.uniform(2.5, 4.5), 0.3),
            "takeover",
        )
        for i in range(int(draw.integers(1, 6)))
    ]


def _testing(draw: np.random.Generator, customers: list[Customer], day: int, tag: str) -> list[Simulated]:
    time, several, opened = _begin(draw, day), draw.random() < 0.5, draw.random() < 0.5
    count = int(draw.integers(3, 12)) if several else 1
    victims = [f"opened-{tag}-{i}" if opened else _victim(draw, customers, day).name for i in range(count)]
    return [
        Simulated(
            time + i * int(draw.integers(2, 12)) * SECOND_US,
            victims[i % len(victims)],
            f"shop{draw.integers(SHOPS * 20)}",
            f"tester-{tag}",
            int(draw.integers(50, 900)),
            "testing",
        )
        for i in range(int(draw.integers(20, 60)))
    ]


def _mule(draw: np.random.Generator, customers: list[Customer], day: int, tag: str) -> list[Simulated]:
    time = _begin(draw, day)
    rows = []
    for _ in range(int(draw.integers(6, 25))):
        victim = _victim(draw, customers, day)
        time += int(draw.integers(MINUTE_US, 30 * MINUTE_US))
        amount = _amount(draw, victim.log_mean + draw.uniform(1.5, 3.0), 0.3)
        rows.append(Simulated(time, victim.name, f"mule-{tag}", f"phone-{victim.name}", amount, "mule"))
    return rows


def _stolen_key(draw: np.random.Generator, customers: list[Customer], day: int, tag: str) -> list[Simulated]:
    victim, time = _victim(draw, customers, day), _begin(draw, day)
    return [
        Simulated(
            time + i * int(draw.integers(5, 60)) * SECOND_US,
            victim.name,
            f"drop-{tag}-{i}",
            None,
            _amount(draw, victim.log_mean + draw.uniform(0, 1.5), 0.4),
            "stolen-key",
        )
        for i in range(int(draw.integers(15, 50)))
    ]


_SCHEMES: Final = (_takeover, _testing, _mule, _stolen_key)
#: How often each is met; a takeover is few payments and the others are many.
_SHARES: Final = (0.65, 0.15, 0.1, 0.1)
