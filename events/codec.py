"""From Kafka records to commands that can be decided, and what is done with those that can not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import ConsumerRecord
from pydantic import ValidationError
from pydantic_core import from_json

from events.decider import Due
from events.errors import UnknownCommandError, UnreadableRecordError
from schemas.common.base import Command
from schemas.common.envelope import CommandEnvelope, MalformedEnvelopeError
from schemas.common.outcomes import Bulk

_TYPE: Final = re.compile(r"^([a-z][a-z0-9-]*)\.[a-z0-9-]+\.v[1-9][0-9]*$")
_NO_HASH: Final = b""


@dataclass(slots=True)
class Unit:
    """One command to decide. ``ends_record`` is true for the last unit of its Kafka record."""

    shard: int
    offset: int
    item: int
    ends_record: bool
    envelope: CommandEnvelope
    command: Command
    id_bytes: bytes
    request_hash: bytes
    record: ConsumerRecord[bytes, bytes] | None
    #: Id of the bulk record that this command came in, "" when it came by itself.
    bulk: str = ""


@dataclass(slots=True)
class BadRecord:
    """A record that can never be read, in its place among the units."""

    shard: int
    offset: int
    record: ConsumerRecord[bytes, bytes]
    error: UnreadableRecordError


def due_unit(shard: int, due: Due, now_us: int, service: str) -> Unit:
    """A deadline as a unit; it has no record and moves no offset."""
    envelope = CommandEnvelope(
        due.command_id,
        due.command.TYPE,
        due.tenant,
        f"system:{service}",
        correlation_id=due.correlation_id or due.saga_id or due.command_id,
        saga_id=due.saga_id,
        time_us=now_us,
    )
    return Unit(shard, -1, 0, False, envelope, due.command, id_to_bytes(due.command_id), _NO_HASH, None)


def id_to_bytes(identifier: str) -> bytes:
    """16 bytes of a canonical UUID; quicker than :class:`uuid.UUID`."""
    try:
        raw = bytes.fromhex(identifier.replace("-", ""))
    except ValueError:
        raise UnreadableRecordError(f"not a UUID: {identifier[:64]!r}") from None
    if len(raw) != 16:
        raise UnreadableRecordError(f"not a UUID: {identifier[:64]!r}")
    return raw


class CommandCodec:
    """Reads the command topic of one service."""

    def __init__(self, service: str, commands: Mapping[str, type[Command]]) -> None:
        self.service = service
        self._commands = commands
        self._from_json: dict[str, Any] = {
            t: m.__pydantic_validator__.validate_json for t, m in commands.items()
        }
        self._from_dict: dict[str, Any] = {
            t: m.__pydantic_validator__.validate_python for t, m in commands.items()
        }

    def decode(self, record: ConsumerRecord[bytes, bytes]) -> list[Unit]:
        """The commands of a record.

        Raises :class:`UnknownCommandError` for a command that newer code may know, and
        :class:`UnreadableRecordError` for a record that no code can read.
        """
        try:
            envelope = CommandEnvelope.read(record.headers)
        except MalformedEnvelopeError as error:
            raise UnreadableRecordError(f"envelope: {error}") from None
        if envelope.type == Bulk.TYPE:
            return self._decode_bulk(record, envelope)
        validate = self._from_json.get(envelope.type)
        if validate is None:
            raise self._unknown(envelope.type)
        try:
            command = validate(record.value or b"")
            digest = bytes.fromhex(envelope.request_hash)
        except ValidationError as error:
            raise UnreadableRecordError(_explain(error)) from None
        except ValueError as error:
            raise UnreadableRecordError(f"request hash: {error}") from None
        return [
            Unit(
                record.partition,
                record.offset,
                0,
                True,
                envelope,
                command,
                id_to_bytes(envelope.id),
                digest,
                record,
            )
        ]

    def _decode_bulk(self, record: ConsumerRecord[bytes, bytes], envelope: CommandEnvelope) -> list[Unit]:
        """A bulk is one record: unreadable as a whole, or readable as a whole."""
        try:
            items = from_json(record.value or b"")["items"]  # orjson reads integers over 64 bits as floats
            last = len(items) - 1
            units = []
            for index, item in enumerate(items):
                kind = item["type"]
                validate = self._from_dict.get(kind)
                if validate is None:
                    raise self._unknown(kind)
                identifier = item["id"]
                units.append(
                    Unit(
                        record.partition,
                        record.offset,
                        index,
                        index == last,
                        CommandEnvelope(
                            identifier,
                            kind,
                            envelope.tenant,
                            envelope.actor,
                            item["hash"],
                            envelope.reply_to,
                            envelope.correlation_id,
                            "",
                            envelope.traceparent,
                        ),
                        validate(item["data"]),
                        id_to_bytes(identifier),
                        bytes.fromhex(item["hash"]),
                        record,
                        envelope.id,
                    )
                )
        except ValidationError as error:
            raise UnreadableRecordError(_explain(error)) from None
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableRecordError(f"bulk: {type(error).__name__}: {error}") from None
        if not units:
            raise UnreadableRecordError("bulk: no items")
        return units

    def _unknown(self, kind: str) -> Exception:
        match = _TYPE.match(kind) if isinstance(kind, str) else None
        if match is not None and match.group(1) == self.service:
            return UnknownCommandError(f"{kind} is not known to this version of {self.service}")
        return UnreadableRecordError(f"{str(kind)[:80]!r} is not a command of {self.service}")


def _explain(error: ValidationError) -> str:
    """Where and why, without the input: dead letters hold the bytes, logs must not hold personal data."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"/{'/'.join(str(p) for p in first['loc'])}: {first['msg']} ({error.error_count()} errors)"
