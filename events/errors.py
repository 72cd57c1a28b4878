"""Ways in which the engine can fail, each with what the caller must do about it."""

from __future__ import annotations


class EngineError(Exception):
    """Base of all errors of the engine."""


class FencedError(EngineError):
    """Another owner has taken a shard: this writer's memory is worthless and it must stop using the shard."""


class AppendDataError(EngineError):
    """PostgreSQL refused the data of a batch (SQLSTATE class 22 or 23). Nothing was written."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(f"{sqlstate}: {message}")
        self.sqlstate = sqlstate


class ClaimConflictError(EngineError):
    """Values that must be unique are already claimed. Nothing was written.

    ``owners``: ids of the commands that came second, each with the pointer to its value.
    """

    def __init__(self, owners: dict[str, str | None]) -> None:
        super().__init__(f"{len(owners)} claims are taken")
        self.owners = owners


class UnknownCommitError(EngineError):
    """The connection broke: the batch may or may not be committed. Only the head row can tell."""


class HistoryGapError(EngineError):
    """Kafka no longer has (or never had) records that the store expects. Starting would lose or repeat commands."""


class ShardCountError(EngineError):
    """A topic's partition count differs from the recorded number of shards."""


class UnknownCommandError(EngineError):
    """A command type (or version) that this code does not know; its shard waits for code that does."""


class UnreadableRecordError(EngineError):
    """A record that can never be read, whatever the code's version; it goes to the dead letters."""


class CorruptHistoryError(EngineError):
    """Stored history does not match its hashes, or has a gap."""
