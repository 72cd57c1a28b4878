"""Deciding a batch on one shard: commands in, encoded rows, results, replies and publications out.

This is the hot path. It holds no I/O: what it needs is in memory before it starts.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import orjson
import structlog

from events.chain import encode_row, leaf_hash, link, merkle_root
from events.codec import Unit, id_to_bytes
from events.decider import Accepted, Context, Decider, Emit, EventMeta, Rejected
from events.store.append import ACCEPTED, REJECTED, ClaimRow, DeadLetter, ShardAppend, encode_result
from events.store.heads import Head
from schemas.common.outcomes import CommandIssued, CommandRefused

log = structlog.get_logger(__name__)
S = TypeVar("S")


class Outgoing(NamedTuple):
    """An event on its way to Kafka."""

    position: int
    stream: str
    version: int
    topic: str
    time_us: int
    tenant: str
    actor: str
    correlation_id: str
    causation_id: str
    traceparent: str
    saga_id: str
    state: bytes
    leaf: bytes

    def meta(self) -> EventMeta:
        """What the domain may see of it."""
        return EventMeta(
            self.stream,
            self.version,
            self.time_us,
            self.tenant,
            self.actor,
            self.correlation_id,
            self.position,
            self.saga_id,
        )


@dataclass(slots=True)
class Answer:
    """The answer to a command, as remembered while its batch is in flight and as replied."""

    request_hash: bytes
    outcome: int
    position: int
    result: dict[str, Any]


@dataclass(slots=True)
class ShardRuntime(Generic[S]):
    """A shard that this process owns: its head as decided so far (not yet committed) and its state."""

    shard: int
    epoch: int
    history: str
    position: int
    offset: int
    time_us: int
    chain: bytes
    state: S
    snapshot_position: int
    refused_due: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, head: Head, state: S, snapshot_position: int) -> ShardRuntime[S]:
        """A runtime at a freshly acquired head."""
        return cls(
            head.shard,
            head.epoch,
            head.history,
            head.next_position,
            head.next_offset,
            head.last_time_us,
            head.chain_hash,
            state,
            snapshot_position,
        )


class ShardBatch(Generic[S]):
    """Builds what one batch appends to one shard."""

    def __init__(self, decider: Decider[S], runtime: ShardRuntime[S], now_us: int, hmac_key: bytes) -> None:
        self.decider = decider
        self.runtime = runtime
        self.now_us = max(now_us, runtime.time_us + 1)
        self.first_position = runtime.position
        self.first_offset = runtime.offset
        self.previous_chain = runtime.chain
        self.rows: list[bytes] = []
        self.leaves: list[bytes] = []
        self.results: list[bytes] = []
        self.claims: list[ClaimRow] = []
        self.dead_letters: list[DeadLetter] = []
        self.outgoing: list[Outgoing] = []
        self.replies: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[bytes, Answer] = {}
        self.snapshot: bytes | None = None
        self._bulks: dict[str, list[dict[str, Any]]] = {}
        self._hmac_key = hmac_key
        self._refused = f"{decider.service}.{CommandRefused.TYPE}"

    # ------------------------------------------------------------------ units

    def decide(self, unit: Unit) -> None:
        """Decide one new command and apply its events."""
        envelope, runtime = unit.envelope, self.runtime
        ctx = Context(
            self.now_us,
            runtime.shard,
            envelope.id,
            envelope.tenant,
            envelope.actor,
            envelope.correlation_id,
            envelope.saga_id,
        )
        decision = self.decider.decide(unit.command, runtime.state, ctx)
        if isinstance(decision, Accepted):
            if decision.events:
                self.decider.check_events(decision.events)
                self._append(unit, decision.events)
            for claim in decision.claims:
                self.claims.append(
                    ClaimRow(
                        claim.scope, _claim_hmac(self._hmac_key, claim.value), envelope.id, claim.pointer
                    )
                )
            self._answer(unit, ACCEPTED, decision.result)
        else:
            self.refuse(unit, decision)

    def refuse(self, unit: Unit, rejected: Rejected) -> None:
        """Record a refusal; one that is addressed to a saga becomes an event that the saga will hear."""
        envelope = unit.envelope
        result = {"reason": rejected.reason, "detail": rejected.detail, "pointer": rejected.pointer}
        if envelope.reply_to == "saga" and envelope.saga_id:
            refused = CommandRefused(
                command_id=envelope.id,
                command_type=envelope.type,
                saga_id=envelope.saga_id,
                reason=rejected.reason,
                detail=rejected.detail,
            )
            self._row(unit, envelope.id, 1, self._refused, refused.to_json())
        self._answer(unit, REJECTED, result)

    def duplicate(self, unit: Unit, known: Answer) -> None:
        """Answer a command that was decided before: the same answer, or a conflict when its body differs."""
        conflict = known.request_hash != unit.request_hash
        self._reply(unit, known, conflict)

    def set_aside(self, letter: DeadLetter, unit: Unit | None) -> None:
        """Move past a record that can not be processed; whoever waits for it hears that it failed."""
        self.dead_letters.append(letter)
        named = dict(orjson.loads(letter.headers))
        log.error(
            "record set aside",
            topic=letter.topic,
            shard=letter.partition,
            offset=letter.offset,
            item=letter.item,
            error=letter.error,  # its class; what it says may quote what was sent, and lies with the dead letter
            command_id=letter.command_id,
            correlation_id=named.get("ce_correlationid") or letter.command_id,
        )
        if unit is None or not unit.envelope.reply_to.startswith("gw:"):
            return
        position = self.runtime.position - 1
        result = {"reason": "dead-lettered", "detail": letter.error, "pointer": None}
        if unit.bulk:
            self._reply_item(unit, "failed", position, result, False)
            return
        reply = self._reply_body(unit, Answer(unit.request_hash, REJECTED, position, {}), False)
        reply["outcome"] = "failed"
        reply["result"] = result
        self.replies.append((unit.envelope.reply_to, reply))

    def pass_offset(self, offset: int) -> None:
        """The record at ``offset`` is dealt with. Offsets may have holes (transaction markers)."""
        self.runtime.offset = max(self.runtime.offset, offset + 1)

    # ------------------------------------------------------------------ result

    def finish(self, snapshot_every: int) -> ShardAppend:
        """Close the batch: Merkle root, chain hash, and a snapshot when one is due."""
        runtime = self.runtime
        root = None
        if self.rows:
            root = merkle_root(self.leaves)
            runtime.chain = link(
                self.previous_chain,
                runtime.shard,
                self.first_position,
                runtime.position - 1,
                self.now_us,
                root,
            )
            runtime.time_us = self.now_us
            if runtime.position - 1 - runtime.snapshot_position >= snapshot_every:
                self.snapshot = self.decider.dump(runtime.state)
                runtime.snapshot_position = runtime.position - 1
        return ShardAppend(
            shard=runtime.shard,
            epoch=runtime.epoch,
            position=self.first_position,
            offset=self.first_offset,
            next_position=runtime.position,
            next_offset=runtime.offset,
            time_us=runtime.time_us,
            chain_hash=runtime.chain,
            root=root,
            rows=self.rows,
            results=self.results,
            claims=self.claims,
            dead_letters=self.dead_letters,
        )

    @property
    def empty(self) -> bool:
        """Whether there is nothing at all to write."""
        return not (
            self.results or self.dead_letters or self.rows or self.runtime.offset != self.first_offset
        )

    # ------------------------------------------------------------------ rows

    def _append(self, unit: Unit, emits: Sequence[Emit]) -> None:
        runtime, envelope, evolve = self.runtime, unit.envelope, self.decider.evolve
        for stream, version, event in emits:
            topic = event.TYPE
            if event.__class__ is CommandIssued:
                topic = f"{self.decider.service}.{topic}"
            position = self._row(unit, stream, version, topic, event.to_json())
            meta = EventMeta(
                stream,
                version,
                self.now_us,
                envelope.tenant,
                envelope.actor,
                envelope.correlation_id,
                position,
                envelope.saga_id,
            )
            runtime.state = evolve(runtime.state, event, meta)

    def _row(self, unit: Unit, stream: str, version: int, topic: str, state: bytes) -> int:
        envelope, runtime = unit.envelope, self.runtime
        metadata: dict[str, Any] = {
            "time": self.now_us,
            "tenant": envelope.tenant,
            "actor": envelope.actor,
            "correlation": envelope.correlation_id,
            "causation": envelope.id,
        }
        if envelope.saga_id:
            metadata["saga"] = envelope.saga_id
        if envelope.traceparent:
            metadata["trace"] = envelope.traceparent
        position = runtime.position
        row = encode_row(
            runtime.shard,
            position,
            id_to_bytes(stream),
            version,
            topic.encode(),
            orjson.dumps(metadata),
            state,
        )
        leaf = leaf_hash(row)
        self.rows.append(row)
        self.leaves.append(leaf)
        self.outgoing.append(
            Outgoing(
                position,
                stream,
                version,
                topic,
                self.now_us,
                envelope.tenant,
                envelope.actor,
                envelope.correlation_id,
                envelope.id,
                envelope.traceparent,
                envelope.saga_id,
                state,
                leaf,
            )
        )
        runtime.position = position + 1
        return position

    def _answer(self, unit: Unit, outcome: int, result: dict[str, Any]) -> None:
        runtime = self.runtime
        answer = Answer(unit.request_hash, outcome, runtime.position - 1, result)
        self.answers[unit.id_bytes] = answer
        self.results.append(
            encode_result(
                unit.id_bytes,
                unit.request_hash,
                runtime.shard,
                answer.position,
                outcome,
                orjson.dumps(result),
                self.now_us,
            )
        )
        self._reply(unit, answer, False)

    def _reply(self, unit: Unit, answer: Answer, conflict: bool) -> None:
        if not unit.envelope.reply_to.startswith("gw:"):
            return
        if unit.bulk:
            outcome = "rejected" if answer.outcome or conflict else "accepted"
            self._reply_item(unit, outcome, answer.position, {} if conflict else answer.result, conflict)
        else:
            self.replies.append((unit.envelope.reply_to, self._reply_body(unit, answer, conflict)))

    def _reply_item(
        self, unit: Unit, outcome: str, position: int, result: dict[str, Any], conflict: bool
    ) -> None:
        """Items of one bulk record are answered together, and briefly."""
        items = self._bulks.get(unit.bulk)
        if items is None:
            items = self._bulks[unit.bulk] = []
            body = {"command_id": unit.bulk, "service": self.decider.service, "shard": self.runtime.shard}
            self.replies.append((unit.envelope.reply_to, body | {"items": items}))
        items.append(
            {
                "index": unit.item,
                "outcome": outcome,
                "position": position,
                "result": result,
                "conflict": conflict,
            }
        )

    def _reply_body(self, unit: Unit, answer: Answer, conflict: bool) -> dict[str, Any]:
        return {
            "command_id": unit.envelope.id,
            "outcome": "rejected" if answer.outcome or conflict else "accepted",
            "service": self.decider.service,
            "shard": self.runtime.shard,
            "position": answer.position,
            "result": {} if conflict else answer.result,
            "conflict": conflict,
        }


def _claim_hmac(key: bytes, value: str) -> bytes:
    return hmac.digest(key, value.encode(), "sha256")
