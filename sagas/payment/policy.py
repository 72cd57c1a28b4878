"""How patient the payment saga is, and how many shards its partners have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_SECOND = 1_000_000
_DAY = 24 * 3600 * _SECOND


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds of a saga, in microseconds. Deadlines are stored in events: a change does not touch running sagas."""

    #: How long a partner may take before its command is sent again.
    step_timeout_us: int = 30 * _SECOND
    #: How often a command is sent again before the saga gives up and undoes.
    retries: int = 3
    #: How long an officer may take to decide about a hit.
    review_timeout_us: int = 30 * _DAY
    #: Life of a hold; a saga that can not reach the ledger relies on its expiry.
    hold_life_us: int = 3600 * _SECOND
    #: How long after a hold's expiry no late placing of it can be under way any more.
    hold_grace_us: int = 60 * _SECOND
    #: Shards of services whose command topic is addressed by a modulus.
    shards: Mapping[str, int] = field(default_factory=lambda: {"ai": 2, "compliance": 2})
