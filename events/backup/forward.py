"""Rolling a restored shard forward: its events come back from ``<service>.events`` as they were, byte for byte.

The events topic says what happened. The commands topic says who asked: each command is judged again at the time of its
batch, only to learn what it was answered; its events are taken from the topic whatever the judgement is. A command
between two events that has none was refused, and is refused again. Commands after the last published event may have
been committed and answered all the same (the relay is always a little behind): those whose answers are still on
``nexafi.replies`` are decided again at the time that the ids in their answers carry. All others nobody has heard
of; they wait for the writer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Generic, TypeVar

import orjson
import structlog

from events.backup.ahead import Ahead
from events.backup.batch import PastBatch
from events.backup.manifest import BackupError
from events.backup.past import PastEvent, by_command
from events.backup.report import ShardForward
from events.begun import made_us
from events.codec import BadRecord, Unit, due_unit
from events.dead_letters import letter_of
from events.decider import (
    Accepted,
    Context,
    Decider,
    Due,
    InvariantViolationError,
    Rejected,
    already_claimed,
)
from events.deciding import Answer, ShardBatch, ShardRuntime
from events.errors import CorruptHistoryError
from events.loading import EventDecoder, load_shard, read_stream
from events.store.append import ACCEPTED, REJECTED
from events.store.heads import Head
from events.store.recorder import ShardRecorder
from nexafi.ids import is_id
from schemas.common.outcomes import CommandIssued, CommandRefused

S = TypeVar("S")
log = structlog.get_logger(__name__)
#: Deadlines acted on before one batch; the writer's own bound.
_MAX_DUE: Final = 500
#: What the writer sets aside instead of failing: the command is bad, not the shard.
_BAD: Final = (InvariantViolationError, ArithmeticError, LookupError, TypeError, ValueError)
_CLAIMED: Final = already_claimed(None).reason


class UnexplainedCommandError(RuntimeError):
    """A command is on the topic, its events are not, and its rules would have accepted it."""


class ShardRoll(Generic[S]):
    """One shard on its way from the backup to what Kafka knows."""

    def __init__(
        self,
        decider: Decider[S],
        recorder: ShardRecorder,
        head: Head,
        hmac_key: bytes,
        replies: dict[str, dict[str, Any]],
        report: ShardForward,
    ) -> None:
        self.decider = decider
        self.recorder = recorder
        self.report = report
        self._hmac_key = hmac_key
        try:
            state = load_shard(recorder, decider, head).state
        except Exception as error:
            raise BackupError(f"{recorder.service}/{head.shard} does not verify: {error}") from error
        self._runtime = ShardRuntime.of(head, state, 0)
        self._decoder: EventDecoder[S] = EventDecoder(decider)
        self._refused = f"{decider.service}.{CommandRefused.TYPE}"
        self._issued = f"{decider.service}.{CommandIssued.TYPE}"
        self._replies = replies
        self._before: dict[bytes, Accepted | Rejected | Exception] = {}
        self._previous_us = head.last_time_us

    @property
    def position(self) -> int:
        """Position of the last event."""
        return self._runtime.position - 1

    # ------------------------------------------------------------------ what was published

    async def take_back(self, past: AsyncIterator[PastEvent], ahead: Ahead) -> None:
        """Append all published events, batch by batch, with the answers of their commands.

        :class:`~events.backup.past.BrokenTopicError` where the topic breaks off; whole batches before that are in.
        """
        batch: list[PastEvent] = []
        async for event in past:
            if batch and batch[0].meta.time_us != event.meta.time_us:
                await self._take_batch(batch, ahead)
                batch = []
            batch.append(event)
        if batch:
            await self._take_batch(batch, ahead)

    async def _take_batch(self, events: Sequence[PastEvent], ahead: Ahead) -> None:
        time_us = events[0].meta.time_us
        batch = PastBatch(self._runtime, time_us)
        due: dict[str, Due] = {}
        first = self.decider.next_due(self._runtime.state)
        if first is not None and first <= time_us:
            due = {d.command_id: d for d in self.decider.due(self._runtime.state, time_us, _MAX_DUE)}
        runs = list(by_command(events))
        if due:
            await self._judge_before(
                batch, next((r[0].causation for r in runs if r[0].causation not in due), ""), ahead
            )
        for run in runs:
            cause = run[0].causation
            if cause in due:
                unit = due_unit(self._runtime.shard, due[cause], time_us, self.decider.service)
                self._take_run(batch, unit, run)
            elif await ahead.reaches(cause):
                while not self._is(item := ahead.pop(), cause, ahead):
                    self._pass(batch, item, ahead)
                assert isinstance(item, Unit)
                ahead.decided(item)
                self._take_run(batch, item, run)
                self._moved(item)
            else:
                self._take_orphan(batch, run)
        self.recorder.append([batch.finish()])
        self._previous_us = time_us

    @staticmethod
    def _is(item: Unit | BadRecord, cause: str, ahead: Ahead) -> bool:
        return isinstance(item, Unit) and item.envelope.id == cause and not ahead.is_known(item)

    def _moved(self, item: Unit | BadRecord) -> None:
        if isinstance(item, BadRecord) or item.ends_record:
            self._runtime.offset = max(self._runtime.offset, item.offset + 1)

    def _take_run(self, batch: PastBatch[S], unit: Unit, run: Sequence[PastEvent]) -> None:
        """The events of one command, and its answer."""
        outcome, result = ACCEPTED, {}
        if run[0].topic == self._refused:
            refusal = orjson.loads(run[0].state)
            again = self._judge(batch, unit, batch.time_us)
            pointer = again.pointer if isinstance(again, Rejected) else None
            outcome = REJECTED
            result = {"reason": refusal["reason"], "detail": refusal["detail"], "pointer": pointer}
        else:
            decision = self._judge(batch, unit, batch.time_us)
            if isinstance(decision, Accepted):
                result = decision.result
                batch.claim(decision.claims, unit, self._hmac_key)
            if not self._same(decision, run):
                self.report.answers_uncertain.append(unit.envelope.id)
        self._evolve(batch, run)
        batch.answer(unit.id_bytes, unit.request_hash, outcome, result)
        self.report.answers += 1

    def _take_orphan(self, batch: PastBatch[S], run: Sequence[PastEvent]) -> None:
        """Events whose command is not on the topic any more. The command's id is kept, so that it can not happen twice."""
        self._evolve(batch, run)
        cause = run[0].causation
        outcome = REJECTED if run[0].topic == self._refused else ACCEPTED
        batch.answer(bytes.fromhex(cause.replace("-", "")), b"", outcome, {})
        self.report.answers_unknown.append(cause)

    def _evolve(self, batch: PastBatch[S], run: Sequence[PastEvent]) -> None:
        runtime = self._runtime
        for past in run:
            if past.meta.position != runtime.position:
                raise CorruptHistoryError(f"event {past.meta.position} follows {runtime.position - 1}")
            batch.add(past)
            event = self._decoder.decode(past.topic, past.state)
            if event is not None:
                runtime.state = self.decider.evolve(runtime.state, event, past.meta)
            runtime.position += 1
        self.report.events += len(run)

    # ------------------------------------------------------------------ what has no event

    def _pass(self, batch: PastBatch[S], item: Unit | BadRecord, ahead: Ahead) -> None:
        """A record between two events that has none itself: refused, unreadable, or a repeat."""
        if isinstance(item, BadRecord):
            batch.letters.append(letter_of(item.record, item.error))
            self.report.dead_letters += 1
        elif not ahead.is_known(item):
            ahead.decided(item)
            self._pass_new(batch, item)
        self._moved(item)

    async def _judge_before(self, batch: PastBatch[S], cause: str, ahead: Ahead) -> None:
        """Records without events before ``cause`` may belong to the batch before, which deadlines had not changed yet."""
        if cause and await ahead.reaches(cause):
            for unit in ahead.until(cause):
                if not ahead.is_known(unit):
                    self._before[unit.id_bytes] = self._judge(batch, unit, self._previous_us)

    def _pass_new(self, batch: PastBatch[S], unit: Unit) -> None:
        reply = self._replies.get(unit.envelope.id)
        before = self._before.pop(unit.id_bytes, None)
        if reply is not None and reply["outcome"] == "rejected":
            batch.answer(unit.id_bytes, unit.request_hash, REJECTED, reply["result"], reply["position"])
            self.report.refusals += 1
            return
        # Its batch may have been this one or the one before: only deadlines and rules about time tell the difference.
        judged = [_refusal(self._judge(batch, unit, batch.time_us))]
        judged.append(_refusal(before if before is not None else self._judge(batch, unit, self._previous_us)))
        decision = next((j for j in judged if j is not None), None)
        if decision is None or isinstance(decision, Exception):
            assert unit.record is not None
            if decision is None:
                decision = UnexplainedCommandError("the command has no events, and its rules accept it")
                self.report.unexplained.append(unit.envelope.id)
            letter = letter_of(unit.record, decision, item=unit.item, command_id=unit.envelope.id)
            batch.letters.append(letter)
            self.report.dead_letters += 1
        elif isinstance(decision, Accepted):
            batch.answer(unit.id_bytes, unit.request_hash, ACCEPTED, decision.result)
            self.report.answers += 1
        else:
            if isinstance(judged[1], Rejected) and judged[1] != decision:
                self.report.answers_uncertain.append(unit.envelope.id)
            result = {"reason": decision.reason, "detail": decision.detail, "pointer": decision.pointer}
            batch.answer(unit.id_bytes, unit.request_hash, REJECTED, result)
            self.report.refusals += 1

    def _judge(self, batch: PastBatch[S], unit: Unit, time_us: int) -> Accepted | Rejected | Exception:
        """What the rules say; whatever was appended is not changed by it."""
        e, state = unit.envelope, self._runtime.state
        try:
            for stream in self.decider.needs(unit.command, state):
                self._hydrate(batch, stream)
            context = Context(time_us, unit.shard, e.id, e.tenant, e.actor, e.correlation_id, e.saga_id)
            return self.decider.decide(unit.command, state, context)
        except _BAD as error:
            return error

    def _hydrate(self, batch: PastBatch[S], stream: str) -> None:
        history = read_stream(self.recorder, self.decider, stream)
        for past in batch.events:
            if past.meta.stream == stream:
                event = self._decoder.decode(past.topic, past.state)
                if event is not None:
                    history.append((event, past.meta))
        if history:
            self.decider.hydrate(self._runtime.state, stream, history)

    def _same(self, decision: Accepted | Rejected | Exception, run: Sequence[PastEvent]) -> bool:
        if not isinstance(decision, Accepted) or len(decision.events) != len(run):
            return False
        return all(
            (emit.stream, emit.version, emit.event.to_json())
            == (past.meta.stream, past.meta.version, past.state)
            and past.topic in {emit.event.TYPE, self._issued}
            for emit, past in zip(decision.events, run, strict=True)
        )

    # ------------------------------------------------------------------ what was answered and not published

    async def take_answered(self, ahead: Ahead) -> None:
        """Decide again what was answered above the last published event; the rest waits for the writer."""
        replies = {c: r for c, r in self._replies.items() if r["position"] >= self.position}
        waiting = set(replies) - await ahead.known_among(list(replies))
        while waiting and (item := await ahead.peek()) is not None:
            reply = replies.get(item.envelope.id) if isinstance(item, Unit) else None
            batch = ShardBatch(self.decider, self._runtime, self._time_of(reply), self._hmac_key)
            self._act_on_deadlines(batch)
            time_us = batch.now_us
            while waiting and (item := await ahead.peek()) is not None:
                reply = replies.get(item.envelope.id) if isinstance(item, Unit) else None
                if reply is not None and self._time_of(reply) > time_us:
                    break  # the next batch
                ahead.pop()
                if isinstance(item, Unit):
                    waiting.discard(item.envelope.id)
                self._decide_again(batch, item, reply, ahead)
                if isinstance(item, BadRecord) or item.ends_record:
                    batch.pass_offset(item.offset)
            append = batch.finish(1 << 62)
            self.recorder.append([append])
        self.report.contradicted.extend(sorted(waiting))

    def _time_of(self, reply: dict[str, Any] | None) -> int:
        """The batch's time, to the millisecond that ids carry; without an id, the time where the shard stands."""
        last = self._runtime.time_us
        if reply is not None and reply["outcome"] == "accepted":
            for value in reply["result"].values():
                if isinstance(value, str) and is_id(value) and made_us(value) // 1000 > last // 1000:
                    return made_us(value)
        return last + 1

    def _act_on_deadlines(self, batch: ShardBatch[S]) -> None:
        runtime = self._runtime
        first = self.decider.next_due(runtime.state)
        if first is None or first > batch.now_us:
            return
        for due in self.decider.due(runtime.state, batch.now_us, _MAX_DUE):
            unit = due_unit(runtime.shard, due, batch.now_us, self.decider.service)
            self._hydrate_for(batch, unit)
            batch.decide(unit)

    def _hydrate_for(self, batch: ShardBatch[S], unit: Unit) -> None:
        for stream in self.decider.needs(unit.command, self._runtime.state):
            history = read_stream(self.recorder, self.decider, stream)
            for out in batch.outgoing:
                if out.stream == stream:
                    event = self._decoder.decode(out.topic, out.state)
                    if event is not None:
                        history.append((event, out.meta()))
            if history:
                self.decider.hydrate(self._runtime.state, stream, history)

    def _decide_again(
        self, batch: ShardBatch[S], item: Unit | BadRecord, reply: dict[str, Any] | None, ahead: Ahead
    ) -> None:
        if isinstance(item, BadRecord):
            batch.set_aside(letter_of(item.record, item.error), None)
            self.report.dead_letters += 1
            return
        if ahead.is_known(item):
            return
        ahead.decided(item)
        try:
            self._hydrate_for(batch, item)
            if reply is not None and reply["result"].get("reason") == _CLAIMED:
                batch.refuse(item, already_claimed(reply["result"].get("pointer")))
            else:
                batch.decide(item)
        except _BAD as error:
            assert item.record is not None
            batch.set_aside(letter_of(item.record, error, item=item.item, command_id=item.envelope.id), None)
            self.report.dead_letters += 1
            return
        if reply is None:
            return
        self.report.from_replies += 1
        if not _agrees(batch.answers[item.id_bytes], reply):
            self.report.contradicted.append(item.envelope.id)


def _refusal(judged: Accepted | Rejected | Exception) -> Accepted | Rejected | Exception | None:
    """How this judgement leaves no event behind; ``None`` when it would."""
    if isinstance(judged, Accepted) and judged.events:
        # It lost a claim to another shard, whose events we have.
        return already_claimed(judged.claims[0].pointer) if judged.claims else None
    return judged


def _agrees(answer: Answer, reply: dict[str, Any]) -> bool:
    outcome = "rejected" if answer.outcome else "accepted"
    return (outcome, answer.result, answer.position) == (reply["outcome"], reply["result"], reply["position"])
