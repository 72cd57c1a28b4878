"""A bounded memory of things that closed lately."""

from __future__ import annotations

from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """Remembers at least the last ``keep`` items put in, and at most twice as many.

    Two generations instead of a queue: putting costs one dictionary insert, and forgetting costs nothing
    until a whole generation is dropped at once.
    """

    __slots__ = ("_keep", "_old", "_young")

    def __init__(self, keep: int) -> None:
        assert keep > 0
        self._keep = keep
        self._young: dict[str, V] = {}
        self._old: dict[str, V] = {}

    def put(self, key: str, value: V) -> None:
        """Remember ``value``; it stays for at least the next ``keep - 1`` other items."""
        young = self._young
        if len(young) >= self._keep and key not in young:
            self._old = young
            self._young = young = {}
        young[key] = value

    def get(self, key: str) -> V | None:
        """The value, or ``None`` when it was never put in or is forgotten."""
        value = self._young.get(key)
        return value if value is not None else self._old.get(key)

    def lasting(self, key: str) -> bool:
        """Whether the value is sure to stay for at least ``keep`` further items."""
        return key in self._young

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
