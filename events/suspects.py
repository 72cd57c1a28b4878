"""Commands that made a batch fail, remembered until their records are read again: each is judged alone, once.

A batch is committed as a whole or not at all. When the database refuses one command of it, memory is loaded again
and the same records are read again; what is known here keeps that from happening twice for the same command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from events.codec import Unit
from events.decider import Rejected, already_claimed
from events.flight import Item

#: Commands remembered between a discard and the second reading of their records.
MAX_REMEMBERED: Final = 100_000


class Suspects:
    """``bound`` is how many commands the next batch may have: few while a bad one is looked for, growing again."""

    def __init__(self, most: int) -> None:
        self.bound = most
        self._most = most
        self._claimed: dict[str, str | None] = {}
        self._poison: dict[tuple[int, int, int], Exception] = {}
        self._deadlines: set[str] = set()

    def lost_claims(self, owners: Mapping[str, str | None]) -> None:
        """These commands came second to a value that must be unique; each with the pointer to it."""
        if len(self._claimed) < MAX_REMEMBERED:
            self._claimed |= owners

    def refusal(self, unit: Unit) -> Rejected | None:
        """That of a command that lost a claim (it is forgotten with that); ``None`` when it lost none."""
        if not self._claimed or unit.envelope.id not in self._claimed:
            return None
        return already_claimed(self._claimed.pop(unit.envelope.id))

    def refused(self, items: Sequence[Item], command_id: str | None, error: Exception) -> str | None:
        """The database refused a batch of ``items`` because of ``command_id``; ``None``: nobody could say which.

        The next batch ends with that command, so everything before it is committed, however many bad ones follow.
        Returns the id when it is no item's: a deadline, which is not acted on any more.
        """
        if command_id is None:
            if len(items) > 1:
                self.bound = max(1, len(items) // 2)
            elif items and isinstance(items[0], Unit):
                self._condemn(items[0], error)
            return None
        for index, item in enumerate(items):
            if isinstance(item, Unit) and item.envelope.id == command_id:
                self._condemn(item, error)
                self.bound = index + 1
                return None
        self._deadlines.add(command_id)
        return command_id

    def _condemn(self, unit: Unit, error: Exception) -> None:
        if len(self._poison) < MAX_REMEMBERED:
            self._poison[unit.shard, unit.offset, unit.item] = error

    def poison(self, unit: Unit) -> Exception | None:
        """Why this command is to be set aside (it is forgotten with that); ``None`` when it is not."""
        return self._poison.pop((unit.shard, unit.offset, unit.item), None) if self._poison else None

    def is_bad_deadline(self, command_id: str) -> bool:
        """Whether what a deadline would write is refused: it waits for an operator, and nobody for it."""
        return command_id in self._deadlines

    def grow(self, used: int) -> bool:
        """After a batch of at most ``used`` commands; whether batches are smaller than usual for now."""
        if self.bound >= self._most:
            return False
        self.bound = min(self._most, used * 2)
        return True
