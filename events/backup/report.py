"""What a restore did, and what it could not bring back. Nothing that was acknowledged is lost without being named."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class ShardForward:
    """What became of one shard after its backup. Lists hold command ids."""

    service: str
    shard: int
    #: Last position of the backup, of the published events, and of the restored store.
    backup_position: int = 0
    published_position: int = 0
    position: int = 0
    #: Events taken back from the events topic, and commands answered as before.
    events: int = 0
    answers: int = 0
    refusals: int = 0
    dead_letters: int = 0
    #: Commands after the last published event, decided again to the answer that their callers were given.
    from_replies: int = 0
    #: Commands that wait on the topic for the writer; nobody was answered.
    undecided: int = 0
    #: The relay publishes again from here, because the topic does not have it.
    publishes_from: int = 1
    notes: list[str] = field(default_factory=list)
    #: Their events are back, but the answer was made anew (the code or a list has changed) or is not known.
    answers_uncertain: list[str] = field(default_factory=list)
    answers_unknown: list[str] = field(default_factory=list)
    #: Neither an event nor a refusal explains them: set aside as dead letters, to be looked at.
    unexplained: list[str] = field(default_factory=list)
    #: Their callers were answered, and the restored system would answer otherwise.
    contradicted: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Commands of which something acknowledged may be gone."""
        return len(self.answers_unknown) + len(self.unexplained) + len(self.contradicted)


@dataclass
class RestoreReport:
    """A whole restore."""

    backup: str
    made_at: str
    shards: list[ShardForward] = field(default_factory=list)
    histories: dict[str, str] = field(default_factory=dict)
    #: What is gone as a whole, in words; empty when Kafka had everything.
    losses: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reissued: int = 0
    verified_events: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everything that was acknowledged is back, with its answer."""
        return not self.losses and not any(s.lost for s in self.shards)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"complete": self.complete}
