"""What a chart of accounts is: places for accounts by code, and which of them may face each other.

An account belongs to the most specific node of the chart that its code begins with, segment by segment. A *facing*
allows accounts of some nodes to be debited where those of others are credited. Which facings a node has part in is
worked out once, when a chart is adopted: for each node two sets of facings, as bits of an integer. Whether two
accounts may face each other is then one ``&``.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from schemas.ledger.chart import AdoptedFacing, AdoptedNode
from schemas.ledger.terms import MAX_DEPTH, SEPARATOR


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart that a ledger has adopted."""

    revision: int
    template: str | None
    nodes: Sequence[AdoptedNode]
    facings: Sequence[AdoptedFacing]

    def node_of(self, code: str) -> AdoptedNode | None:
        """The most specific node that has room for an account with ``code``."""
        found = nearest(code, self._places)
        return None if found is None else self.nodes[self._places[found]]

    def parts_of(self, code: str) -> tuple[int, int]:
        """The facings in which an account with ``code`` may be debited, and credited, as bits."""
        found = nearest(code, self._places)
        return (0, 0) if found is None else self._parts[self._places[found]]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {node.code: index for index, node in enumerate(self.nodes)}

    @cached_property
    def _parts(self) -> list[tuple[int, int]]:
        return [
            (
                _bits(covers(f.debit, node.code) for f in self.facings),
                _bits(covers(f.credit, node.code) for f in self.facings),
            )
            for node in self.nodes
        ]


def nearest(code: str, known: Container[str]) -> str | None:
    """The longest of ``known`` that ``code`` is, or goes on after with ``:``."""
    segments = code.split(SEPARATOR)[:MAX_DEPTH]
    for length in range(len(segments), 0, -1):
        prefix = SEPARATOR.join(segments[:length])
        if prefix in known:
            return prefix
    return None


def covers(pattern: str, code: str) -> bool:
    """Whether ``pattern`` means the node ``code`` or one above it. ``*`` is any one segment."""
    wanted, have = pattern.split(SEPARATOR), code.split(SEPARATOR)
    return len(wanted) <= len(have) and all(w in ("*", h) for w, h in zip(wanted, have, strict=False))


def _bits(flags: Iterable[bool]) -> int:
    return sum(1 << n for n, flag in enumerate(flags) if flag)
