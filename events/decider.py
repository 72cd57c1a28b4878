"""The port between the engine and a domain: ``decide(command, state) -> events | refusal``, ``evolve(state, event)``.

A domain is pure: no clock, no I/O, no randomness. Time, ids and identity arrive in the :class:`Context`.
State belongs to the one writer of a shard and may be changed in place by ``evolve``; when a commit fails
the engine throws the whole state away and loads it again, so a decision never has to be undone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from nexafi.ids import make_id
from schemas.common.base import Command, Event

S = TypeVar("S")


class Emit(NamedTuple):
    """An event to append: ``version`` is the stream's next version (1 for a new stream, no gaps)."""

    stream: str
    version: int
    event: Event


class Claim(NamedTuple):
    """A value that must be unique across all shards of a service, e.g. an external reference."""

    scope: str
    value: str
    owner: str
    #: Where the value stands in the command, for the refusal of whoever comes second.
    pointer: str | None = None


@dataclass(slots=True)
class Accepted:
    """The command happens. ``result`` holds ids (never personal data) and is stored for good."""

    events: Sequence[Emit]
    result: dict[str, Any] = field(default_factory=dict)
    claims: Sequence[Claim] = ()


@dataclass(slots=True)
class Rejected:
    """The command does not happen. ``reason`` is a stable code that has a page in the reference.

    ``pointer`` is a JSON Pointer into the command's data.
    """

    reason: str
    detail: str = ""
    pointer: str | None = None


def already_claimed(pointer: str | None) -> Rejected:
    """The refusal of a command whose value is somebody else's; only the store can tell, so the engine says it."""
    return Rejected("already-claimed", "a value that must be unique is taken", pointer)


class EventMeta(NamedTuple):
    """What ``evolve`` may know about an event besides its data."""

    stream: str
    version: int
    time_us: int
    tenant: str
    actor: str
    correlation_id: str = ""
    position: int = 0
    saga_id: str = ""


class Due(NamedTuple):
    """A deadline that has passed, as the command that acts on it. ``command_id`` derives from what expires."""

    command_id: str
    tenant: str
    command: Command
    saga_id: str = ""
    #: Of the command that set the deadline; its saga or the deadline itself where nobody remembers.
    correlation_id: str = ""


@dataclass(slots=True)
class Context:
    """Inputs of one decision. ``now_us`` is the batch's time: never below any earlier event or cause."""

    now_us: int
    shard: int
    command_id: str
    tenant: str
    actor: str
    correlation_id: str = ""
    saga_id: str = ""

    def new_id(self, kind: str = "", index: int = 0) -> str:
        """Id for what this command creates; the same for the same command, kind and index in a batch."""
        return make_id(self.now_us, self.shard, self.command_id, kind, index)


class InvariantViolationError(AssertionError):
    """State that must never exist. The writer stops rather than append to it."""


class Decider(ABC, Generic[S]):
    """A service's domain, as the engine runs it. One instance serves all shards and keeps no state itself."""

    service: ClassVar[str]
    #: Version of what ``dump`` writes. A snapshot of another version is ignored and history replayed.
    state_version: ClassVar[int]
    commands: ClassVar[Mapping[str, type[Command]]]
    events: ClassVar[Mapping[str, type[Event]]]

    @abstractmethod
    def initial(self, shard: int) -> S:
        """State before the first event."""

    @abstractmethod
    def decide(self, command: Command, state: S, ctx: Context) -> Accepted | Rejected:
        """Judge a command. Must not change ``state``."""

    @abstractmethod
    def evolve(self, state: S, event: Event, meta: EventMeta) -> S:
        """Apply an event. Total: every stored event of a known type applies."""

    @abstractmethod
    def dump(self, state: S) -> bytes:
        """Canonical bytes of the state (equal states give equal bytes); the digest is taken over them."""

    @abstractmethod
    def load(self, data: bytes) -> S:
        """Inverse of ``dump``."""

    def check(self, state: S) -> None:
        """Raise :class:`InvariantViolationError` when ``state`` must not exist. Called after loading."""

    def check_events(self, events: Iterable[Emit]) -> None:
        """Raise :class:`InvariantViolationError` when these events must not be appended together."""

    def needs(self, command: Command, state: S) -> Sequence[str]:
        """Streams to load before ``decide``: things that left memory when they closed."""
        return ()

    def hydrate(self, state: S, stream: str, history: Sequence[tuple[Event, EventMeta]]) -> None:
        """Take in a stream asked for by ``needs``. What is hydrated is not part of ``dump``."""

    def due(self, state: S, now_us: int, limit: int) -> Sequence[Due]:
        """Deadlines at or before ``now_us``, earliest first, at most ``limit``."""
        return ()

    def next_due(self, state: S) -> int | None:
        """When the earliest deadline falls, so that an idle writer knows how long to sleep."""
        return None
