"""How many commands one shard may have under way, and how many of these are one tenant's.

Three rules keep a shard that is asked for more than it can do from becoming slow for everybody:

* **The bound follows the delay.** While answers take longer than :data:`TARGET_S`, fewer commands are taken; when they
  are quick again, more. What is taken is therefore answered in time, and what is too much hears so at once.
* **Large commands take more places**, one for each :data:`PLACE_BYTES`, since they are more work.
* **Nobody may have more than what is left free** (dynamic thresholds, Choudhury and Hahne 1998). One tenant that sends
  without end holds at most half of the places, two hold a third each, and whoever comes with nothing under way finds one.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

#: Seconds from sending a command to its answer above which fewer are taken.
TARGET_S: Final = 0.7
#: Never fewer places than that: a short list is worked off in a moment, and halving it would gain nothing.
MIN_PLACES: Final = 256
#: Bytes of a body that one place is for.
PLACE_BYTES: Final = 2_048
_ADJUST_S: Final = 0.1
_LESS: Final = 0.8
_MORE: Final = 1.25
#: What is given out before anybody knows how quick the shard is.
_FIRST: Final = 1 / 4


class Lane:
    """Places of one shard. ``most`` is the hard bound; ``places`` is how many of these are given out at present."""

    __slots__ = ("_adjusted_at", "most", "open", "places", "tenants")

    def __init__(self, most: int) -> None:
        self.most = most
        self.places = max(min(MIN_PLACES, most), int(most * _FIRST))
        self.open = 0
        self.tenants: dict[str, int] = {}
        self._adjusted_at = 0.0

    def full(self, tenant: str, count: int) -> bool:
        """Whether ``count`` more commands of this tenant have no place."""
        mine = self.tenants.get(tenant, 0)
        if mine == 0:
            return self.open + count > self.most
        return mine + count > self.places - self.open

    def enter(self, tenant: str, count: int) -> None:
        """Take places."""
        self.open += count
        self.tenants[tenant] = self.tenants.get(tenant, 0) + count

    def leave(self, tenant: str, count: int) -> None:
        """Give them back."""
        self.open -= count
        left = self.tenants[tenant] - count
        if left:
            self.tenants[tenant] = left
        else:
            del self.tenants[tenant]

    def answered(self, took_s: float) -> None:
        """An answer came after ``took_s``: the bound follows, some times a second at most."""
        now = monotonic()
        if now - self._adjusted_at < _ADJUST_S:
            return
        self._adjusted_at = now
        if took_s > TARGET_S:
            self.places = max(min(MIN_PLACES, self.most), int(min(self.places, self.open) * _LESS))
        elif self.places < self.most and took_s < TARGET_S / 2:
            self.places = min(self.most, int(self.places * _MORE) + 1)
