"""Which streams have begun, for domains that give each subject one stream whose id follows from the subject's own id.

A screening's stream follows from its payment's id, so a second screening of a payment would be a second first event
of one stream. Loading the stream for every command would tell, at the price of a query each. Ids carry the time
of their making, so mostly memory can tell: what was made after the oldest event in memory can only have begun in memory.
"""

from __future__ import annotations

from typing import Final

from nexafi.ids import is_id

#: Streams remembered; above it the oldest go.
MAX_BEGUN: Final = 50_000
#: Clocks of two machines may differ by this much before a shard is taken out of service, twice over.
CLOCK_MARGIN_US: Final = 10_000_000
_NEVER: Final = 2**63


def made_us(identifier: str) -> int:
    """When an id was made, in microseconds since 1970 (to the millisecond); ``ValueError`` when it is no id of ours."""
    if not is_id(identifier):
        raise ValueError(f"not a NexaFi id: {identifier[:64]!r}")
    return int(identifier[:8] + identifier[9:13], 16) * 1000


class BegunStreams:
    """A bounded memory of streams, with the tenant of each. A cache: never part of a snapshot or of a digest."""

    __slots__ = ("_complete_after_us", "_limit", "_streams")

    def __init__(self, *, from_first_event: bool, limit: int = MAX_BEGUN) -> None:
        """``from_first_event``: the state begins with the shard's history, and not with a snapshot."""
        self._streams: dict[str, tuple[int, str]] = {}
        self._complete_after_us = -1 if from_first_event else _NEVER
        self._limit = limit

    def __len__(self) -> int:
        return len(self._streams)

    def note(self, stream: str, time_us: int, tenant: str) -> None:
        """``stream`` began with an event of ``time_us``. Times never fall from one call to the next."""
        if self._complete_after_us == _NEVER:
            self._complete_after_us = time_us  # events before the first that we see are not in memory
        self._streams[stream] = (time_us, tenant)
        if len(self._streams) > self._limit:
            oldest = next(iter(self._streams))
            self._complete_after_us = max(self._complete_after_us, self._streams.pop(oldest)[0])

    def recall(self, stream: str, tenant: str) -> None:
        """``stream`` was loaded because memory could not tell; it is kept until newer ones push it out."""
        self._streams.pop(stream, None)
        self._streams[stream] = (-1, tenant)

    def tenant_of(self, stream: str) -> str | None:
        """Tenant of a stream that is known to have begun."""
        known = self._streams.get(stream)
        return None if known is None else known[1]

    def can_tell(self, stream: str, subject_id: str) -> bool:
        """Whether memory says for certain if the stream about ``subject_id`` (an id of ours) has begun."""
        return stream in self._streams or made_us(subject_id) - CLOCK_MARGIN_US > self._complete_after_us
