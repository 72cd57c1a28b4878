"""What the payment service remembers: payments under way, and settled ones with a refund in flight.

Everything else has left memory. A closed payment that a command asks for comes back from its stream
(``needs``/``hydrate``) into :attr:`State.closed`, which is bounded and not part of a snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import orjson

#: Closed payments kept at hand; above it the oldest go. Any of them can be read again from its stream.
MAX_CLOSED: Final = 20_000

Screening = Literal["clear", "review", "released", "blocked"]


@dataclass(slots=True)
class UnderWay:
    """A payment that has not ended. ``version`` is its stream's."""

    tenant: str
    version: int
    ledger_id: str
    payer_account_id: str
    payee_account_id: str
    amount: int
    currency: str
    status: Literal["initiated", "held", "posted"] = "initiated"
    risk: Literal["allow", "deny"] | None = None
    screening: Screening | None = None
    cancelling: bool = False

    @property
    def cleared(self) -> bool:
        """Whether money may be held: the risk is allowed and no sanctions hit stands."""
        return self.risk == "allow" and self.screening in ("clear", "released")


@dataclass(slots=True)
class Settled:
    """A payment that moved ``captured``. ``refunds`` are in flight: refund id -> amount reserved."""

    tenant: str
    version: int
    ledger_id: str
    payer_account_id: str
    payee_account_id: str
    captured: int
    currency: str
    refunded: int = 0
    refunds: dict[str, int] = field(default_factory=dict)

    @property
    def reserved(self) -> int:
        """What the refunds in flight will give back if all of them succeed."""
        return sum(self.refunds.values())

    @property
    def refundable(self) -> int:
        """What a further refund can give back at most."""
        return self.captured - self.refunded - self.reserved


@dataclass(slots=True)
class Ended:
    """A payment that moved no money and never will."""

    tenant: str
    version: int
    outcome: Literal["rejected", "cancelled", "failed"]


Payment = UnderWay | Settled | Ended


@dataclass(slots=True)
class State:
    """One shard. A payment is in exactly one of the three."""

    under_way: dict[str, UnderWay] = field(default_factory=dict)
    refunding: dict[str, Settled] = field(default_factory=dict)
    closed: dict[str, Settled | Ended] = field(default_factory=dict)

    def find(self, payment_id: str) -> Payment | None:
        """The payment, wherever it is in memory."""
        return self.under_way.get(payment_id) or self.refunding.get(payment_id) or self.closed.get(payment_id)

    def close(self, payment_id: str, payment: Settled | Ended) -> None:
        """Nothing is in flight for this payment any more."""
        self.under_way.pop(payment_id, None)
        self.refunding.pop(payment_id, None)
        self.closed[payment_id] = payment
        while len(self.closed) > MAX_CLOSED:
            del self.closed[next(iter(self.closed))]


def dump(state: State) -> bytes:
    """Canonical JSON; ids in order, amounts as text since they may exceed 64 bits."""
    under_way = [
        [
            i,
            p.tenant,
            p.version,
            p.ledger_id,
            p.payer_account_id,
            p.payee_account_id,
            str(p.amount),
            p.currency,
            p.status,
            p.risk,
            p.screening,
            p.cancelling,
        ]
        for i, p in sorted(state.under_way.items())
    ]
    refunding = [
        [
            i,
            p.tenant,
            p.version,
            p.ledger_id,
            p.payer_account_id,
            p.payee_account_id,
            str(p.captured),
            p.currency,
            str(p.refunded),
            [[r, str(a)] for r, a in sorted(p.refunds.items())],
        ]
        for i, p in sorted(state.refunding.items())
    ]
    return orjson.dumps({"refunding": refunding, "under_way": under_way})


def load(data: bytes) -> State:
    """Inverse of :func:`dump`."""
    raw = orjson.loads(data)
    state = State()
    for i, tenant, version, ledger, payer, payee, amount, currency, *rest in raw["under_way"]:
        state.under_way[i] = UnderWay(tenant, version, ledger, payer, payee, int(amount), currency, *rest)
    for i, tenant, version, ledger, payer, payee, captured, currency, refunded, refunds in raw["refunding"]:
        in_flight = {r: int(a) for r, a in refunds}
        state.refunding[i] = Settled(
            tenant, version, ledger, payer, payee, int(captured), currency, int(refunded), in_flight
        )
    return state
