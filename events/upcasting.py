"""Old versions of events, read as today's: a chain of pure ``dict -> dict`` steps, one for each version.

What is stored is never rewritten. A breaking change of ``ledger.thing-happened.v1`` is a new type
``ledger.thing-happened.v2`` and one function from the data of v1 to the data of v2; a reader that meets v1
walks the chain and hands the domain only the newest. Types that never changed cost one dictionary look-up.

A version that this code does not know yet is left as it is: whoever reads decides (a shard pauses for an
unknown command; it never guesses).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

Data = dict[str, Any]
Step = Callable[[Data], Data]

_VERSIONED: Final = re.compile(
    r"^(?P<name>[a-z][a-z0-9-]*(?:\.[a-z][a-z0-9-]*)+)\.v(?P<version>[1-9][0-9]*)$"
)


class UpcastError(ValueError):
    """A step was registered twice, or a type's name carries no version."""


def next_version(type_: str) -> str:
    """``"ledger.thing-happened.v1"`` -> ``"ledger.thing-happened.v2"``."""
    match = _VERSIONED.match(type_)
    if match is None:
        raise UpcastError(f"not a versioned type: {type_[:80]!r}")
    return f"{match['name']}.v{int(match['version']) + 1}"


class Upcasters:
    """The steps that a process knows. Registered while modules load, then only read."""

    def __init__(self) -> None:
        self._steps: dict[str, tuple[str, Step]] = {}

    def register(self, type_: str, step: Step) -> None:
        """``step`` turns the data of ``type_`` into that of its next version. It must not change its argument."""
        if type_ in self._steps:
            raise UpcastError(f"{type_} already has an upcaster")
        self._steps[type_] = (next_version(type_), step)

    def upcast(self, type_: str, data: Data) -> tuple[str, Data]:
        """The newest known version of ``type_`` and its data; both unchanged when there is nothing to do."""
        found = self._steps.get(type_)
        while found is not None:
            type_, data = found[0], found[1](data)
            found = self._steps.get(type_)
        return type_, data

    def __contains__(self, type_: object) -> bool:
        """Whether ``type_`` is an old version, so that its data must be decoded and walked up the chain."""
        return type_ in self._steps


#: The chain of this installation. Nothing has been broken yet, so it is empty.
UPCASTERS: Final = Upcasters()
