"""CloudEvents 1.0 envelopes in the Kafka protocol binding (binary content mode).

The value of a record is the JSON of the data; everything about it is in ``ce_*`` headers, so a consumer
in any language reads NexaFi's topics without anything of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

Headers = list[tuple[str, bytes]]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_JSON: Final = ("content-type", b"application/json")
_SPEC: Final = ("ce_specversion", b"1.0")


class MalformedEnvelopeError(ValueError):
    """A record lacks a header that its kind must have, or has one that can not be read."""


def rfc3339(time_us: int) -> str:
    """UTC with microseconds, e.g. ``2026-01-31T12:00:00.000001Z``."""
    seconds, rest = divmod(time_us, 1_000_000)
    return f"{_second(seconds)}.{rest:06d}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    """Up to the second: formatting a date takes 2 us, and messages of one second are many."""
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def micros(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 time; a time without a zone is refused."""
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError(f"time without a zone: {text[:40]!r}")
    return (value - _EPOCH) // timedelta(microseconds=1)


@dataclass(slots=True)
class CommandEnvelope:
    """Who wants what, and where the answer goes. ``reply_to`` is ``"gw:<partition>"``, ``"saga"`` or ``""``."""

    id: str
    type: str
    tenant: str
    actor: str
    request_hash: str = ""
    reply_to: str = ""
    correlation_id: str = ""
    saga_id: str = ""
    traceparent: str = ""
    time_us: int = 0
    source: str = "nexafi/gateway"

    def headers(self) -> Headers:
        """Kafka headers of this command."""
        out: Headers = [
            _SPEC,
            ("ce_id", self.id.encode()),
            ("ce_type", self.type.encode()),
            ("ce_source", self.source.encode()),
            ("ce_time", rfc3339(self.time_us).encode()),
            ("ce_tenant", self.tenant.encode()),
            ("ce_actor", self.actor.encode()),
            ("ce_requesthash", self.request_hash.encode()),
            ("ce_replyto", self.reply_to.encode()),
            ("ce_correlationid", (self.correlation_id or self.id).encode()),
            _JSON,
        ]
        if self.saga_id:
            out.append(("ce_sagaid", self.saga_id.encode()))
        if self.traceparent:
            out.append(("ce_traceparent", self.traceparent.encode()))
        return out

    @classmethod
    def read(cls, headers: Iterable[tuple[str, bytes]]) -> CommandEnvelope:
        """The envelope of a received record; :class:`MalformedEnvelopeError` when a required header is absent."""
        h = dict(headers)
        try:
            identifier = h["ce_id"].decode()
            return cls(
                identifier,
                h["ce_type"].decode(),
                h["ce_tenant"].decode(),
                h["ce_actor"].decode(),
                h.get("ce_requesthash", b"").decode(),
                h.get("ce_replyto", b"").decode(),
                h.get("ce_correlationid", b"").decode() or identifier,
                saga := h.get("ce_sagaid", b"").decode(),
                h.get("ce_traceparent", b"").decode(),
                # Only a saga's command has an event as its cause, whose time it must not precede; a
                # gateway's clock decides nothing.
                micros(h["ce_time"].decode()) if saga else 0,
            )
        except KeyError as error:
            raise MalformedEnvelopeError(f"header {error.args[0]} is missing") from None
        except (
            ValueError,
            TypeError,
            AttributeError,
        ) as error:  # not UTF-8, not a number, or no value at all
            raise MalformedEnvelopeError(f"header can not be read: {error}") from None


@dataclass(slots=True)
class EventEnvelope:
    """Where an event stands in history, and why it is there. See ``docs/reference/events.md``."""

    id: str
    type: str
    source: str
    subject: str
    time_us: int
    tenant: str
    actor: str
    history: str
    shard: int
    position: int
    stream_version: int
    correlation_id: str
    causation_id: str
    traceparent: str = ""
    saga_id: str = ""

    def headers(self) -> Headers:
        """Kafka headers of this event."""
        out: Headers = [
            _SPEC,
            ("ce_id", self.id.encode()),
            ("ce_type", self.type.encode()),
            ("ce_source", self.source.encode()),
            ("ce_subject", self.subject.encode()),
            ("ce_time", rfc3339(self.time_us).encode()),
            ("ce_tenant", self.tenant.encode()),
            ("ce_actor", self.actor.encode()),
            ("ce_history", self.history.encode()),
            ("ce_shard", b"%d" % self.shard),
            ("ce_position", b"%d" % self.position),
            ("ce_streamversion", b"%d" % self.stream_version),
            ("ce_correlationid", self.correlation_id.encode()),
            ("ce_causationid", self.causation_id.encode()),
            _JSON,
        ]
        if self.traceparent:
            out.append(("ce_traceparent", self.traceparent.encode()))
        if self.saga_id:
            out.append(("ce_sagaid", self.saga_id.encode()))
        return out

    @classmethod
    def read(cls, headers: Iterable[tuple[str, bytes]]) -> EventEnvelope:
        """The envelope of a received record; :class:`MalformedEnvelopeError` when it can not be read."""
        h = dict(headers)
        try:
            return cls(
                h["ce_id"].decode(),
                h["ce_type"].decode(),
                h["ce_source"].decode(),
                h["ce_subject"].decode(),
                micros(h["ce_time"].decode()),
                h["ce_tenant"].decode(),
                h["ce_actor"].decode(),
                h["ce_history"].decode(),
                int(h["ce_shard"]),
                int(h["ce_position"]),
                int(h["ce_streamversion"]),
                h["ce_correlationid"].decode(),
                h["ce_causationid"].decode(),
                h.get("ce_traceparent", b"").decode(),
                h.get("ce_sagaid", b"").decode(),
            )
        except KeyError as error:
            raise MalformedEnvelopeError(f"header {error.args[0]} is missing") from None
        except (
            ValueError,
            TypeError,
            AttributeError,
        ) as error:  # not UTF-8, not a number, or no value at all
            raise MalformedEnvelopeError(f"header can not be read: {error}") from None
