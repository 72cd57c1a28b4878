"""What becomes of a command: the stored result, the reply, and the events the engine itself writes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from schemas.common.base import Contract, Event, Id

#: ``failed``: the command is in the dead letters; it had no effect and may be retried by an operator.
Outcome = Literal["accepted", "rejected", "failed"]


class CommandResult(Contract):
    """The permanent answer to a command; ids and reasons only, never personal data."""

    command_id: Id
    outcome: Outcome
    service: str
    shard: int
    position: int = Field(
        description="Position of the shard after the command; the source of the consistency token."
    )
    result: dict[str, Any] = Field(
        default_factory=dict, description="Ids of what the command created, or the refusal."
    )
    conflict: bool = Field(default=False, description="True when this id was used before with another body.")


class ItemResult(Contract):
    """The answer to one item of a bulk record."""

    index: int = Field(description="Place of the item in its record, from 0.")
    outcome: Outcome
    position: int
    result: dict[str, Any]
    conflict: bool


class BulkResults(Contract):
    """Answers to items of one bulk record; a record that was decided in several batches has several of these."""

    command_id: Id = Field(description="Id of the bulk record.")
    service: str
    shard: int
    items: list[ItemResult]


class Reply(Contract):
    """One record on ``nexafi.replies``: the results of one batch for one gateway partition."""

    results: list[CommandResult | BulkResults]


class CommandRefused(Event):
    """A refusal that was addressed to a saga. Appended by the engine to ``<service>``'s own history."""

    TYPE: ClassVar[str] = "command-refused.v1"  # stored as "<service>.command-refused.v1"

    command_id: Id
    command_type: str
    saga_id: Id
    reason: str
    detail: str = ""


class CommandIssued(Event):
    """A command that a saga decided to send. The relay sends it when it publishes this event; a replay does not."""

    TYPE: ClassVar[str] = "command-issued.v1"  # stored as "<service>.command-issued.v1"

    target: str = Field(description="Service whose command topic receives it.")
    shard: int
    command_id: Id
    command_type: str
    tenant: str
    saga_id: Id
    data: dict[str, Any]


class BulkItem(Contract):
    """One command of a bulk record."""

    id: Id
    hash: str
    type: str
    data: dict[str, Any]


class Bulk(Contract):
    """Many commands for one shard in one Kafka record (type ``nexafi.bulk.v1``)."""

    TYPE: ClassVar[str] = "nexafi.bulk.v1"

    items: list[BulkItem]
