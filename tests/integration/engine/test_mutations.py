"""Each property of the engine holds, and each bug that is planted into it is caught by the property that it breaks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import events.chain
import events.deciding
import events.loading
import events.store.append
import events.store.isolating
import events.writer
from events.chain import GENESIS
from events.deciding import ShardBatch
from events.flight import InFlight
from events.migrations import migrate
from events.store import reading
from events.suspects import Suspects
from events.writer import Writer
from nexafi.settings import Settings
from tests.integration.engine import properties
from tests.kit.counter import CounterDecider
from tests.kit.desk import SHARDS, Desk
from tests.kit.source_edit import Plant, edit

Check = Callable[[Desk], Awaitable[None]]


@pytest.fixture
async def desk(stack: Settings, database_url: str) -> AsyncIterator[Desk]:
    service = f"d{secrets.token_hex(3)}"
    settings = stack.model_copy(
        update={"database_url": database_url, "snapshot_every": 4, "shards": {service: SHARDS}}
    )
    await asyncio.to_thread(migrate, settings, (service,))
    desk = Desk(settings, lambda: CounterDecider(service))
    await desk.open()
    yield desk
    await desk.close()


CHECKS: list[Check] = [check for name, check in vars(properties).items() if name.startswith("check_")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
async def test_the_property_holds(desk: Desk, check: Check) -> None:
    await check(desk)
    assert desk.head().next_position == len(desk.history()) + 1


# ------------------------------------------------------------------ bugs


def forget_what_flies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch in flight is not asked for the answers in it."""
    make = InFlight.__init__

    def without_answers(self: InFlight, task: Any, answers: Any, *rest: Any) -> None:
        make(self, task, {}, *rest)

    monkeypatch.setattr(InFlight, "__init__", without_answers)


def no_state_within_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of one batch are decided on the state before it."""
    decide, finish = ShardBatch.decide, ShardBatch.finish

    def on_old_state(self: Any, unit: Any) -> None:
        import copy

        self.__dict__.setdefault("_real", self.decider)
        before = copy.deepcopy(self.runtime.state)
        decide(self, unit)
        self.__dict__.setdefault("_late", []).append(self.runtime.state)
        self.runtime.state = before

    def apply_at_the_end(self: Any, every: int) -> Any:
        late = self.__dict__.get("_late")
        if late:
            self.runtime.state = late[-1]
        return finish(self, every)

    monkeypatch.setattr(ShardBatch, "decide", on_old_state)
    monkeypatch.setattr(ShardBatch, "finish", apply_at_the_end)


#: What is wrong -> (how it is planted, which property must notice).
BUGS: dict[str, tuple[Plant, Check]] = {
    "a snapshot says a position too far": (
        edit(Writer, "_commit", "a.shard, a.next_position - 1,", "a.shard, a.next_position,"),
        properties.check_snapshot_and_tail_are_the_history,
    ),
    "a snapshot says a position too early": (
        edit(Writer, "_commit", "a.shard, a.next_position - 1,", "a.shard, a.next_position - 2,"),
        properties.check_snapshot_and_tail_are_the_history,
    ),
    "the tail begins at the snapshot itself": (
        edit(events.loading, "load_shard", "reading.tail(recorder, head.shard, position,", "reading.tail(recorder, head.shard, max(0, position - 1),"),
        properties.check_snapshot_and_tail_are_the_history,
    ),
    "deadlines are not in the snapshot": (
        lambda m: m.setattr(CounterDecider, "dump", lambda d, s, dump=CounterDecider.dump: _drop_deadlines(dump(d, s))),
        properties.check_snapshot_and_tail_are_the_history,
    ),
    "snapshots of other code are used": (
        edit(reading, "latest_snapshot", "AND state_version = %s AND", "AND (state_version = %s OR true) AND"),
        properties.check_a_snapshot_of_other_code_is_ignored,
    ),
    "a snapshot's digest is not checked": (
        edit(events.loading, "load_shard", "if sha256(bytes(snapshot.state)).digest() == bytes(snapshot.digest):", "if True:"),
        properties.check_a_snapshot_of_other_code_is_ignored,
    ),
    "commands of a batch do not see each other": (no_state_within_a_batch, properties.check_cuts_do_not_matter),
    "the domain remembers more than its state": (
        edit(CounterDecider, "decide", 'self.bug == "remembers-itself"', "True"),
        properties.check_cuts_do_not_matter,
    ),
    "the epoch is not compared": (
        edit(events.store.append, "_swap_heads", "AND h.epoch = n.epoch", ""),
        properties.check_heads_are_compared,
    ),
    "the position is not compared": (
        edit(events.store.append, "_swap_heads", "AND h.next_position = n.position", ""),
        properties.check_heads_are_compared,
    ),
    "the offset is not compared": (
        edit(events.store.append, "_swap_heads", "AND h.next_offset = n.consumed", ""),
        properties.check_heads_are_compared,
    ),
    "a head that was not found is no error": (
        edit(events.store.append, "_swap_heads", "if swapped != len(shards):", "if swapped > len(shards):"),
        properties.check_heads_are_compared,
    ),
    "a repeat in the same batch is decided again": (
        edit(Writer, "_decide", "or batch.answers.get(item.id_bytes)", ""),
        properties.check_a_command_has_one_effect,
    ),
    "a repeat of what is in flight is decided again": (forget_what_flies, properties.check_a_command_has_one_effect),
    "a repeat of what is stored is decided again": (
        lambda m: m.setattr(reading, "results", lambda *_: {}),
        properties.check_a_command_has_one_effect,
    ),
    "another body under a known id is answered": (
        edit(ShardBatch, "duplicate", "known.request_hash != unit.request_hash", "False"),
        properties.check_a_command_has_one_effect,
    ),
    "a claim that is taken is no error": (
        edit(events.store.append, "_claim", "if len(inserted) != len(claims):", "if False:"),
        properties.check_a_claim_is_won_once,
    ),
    "who lost a claim is not remembered": (
        edit(Writer, "_recover", "self._suspects.lost_claims(error.owners)", "pass"),
        properties.check_a_claim_is_won_once,
    ),
    "deadlines wait for an idle moment": (
        edit(Writer, "_decide", "if due is not None and due <= batch.now_us:", "if False:"),
        properties.check_deadlines_are_acted_on_once_and_first,
    ),
    "deadlines come early": (
        edit(CounterDecider, "due", "if t <= now_us", "if True"),
        properties.check_deadlines_are_acted_on_once_and_first,
    ),
    "the clock is believed": (
        edit(ShardBatch, "__init__", "max(now_us, runtime.time_us + 1)", "now_us"),
        properties.check_time_never_falls,
    ),
    "a bad command takes its batch with it": (
        edit(events.store.isolating, "first_refused", "return commands[good].command_id", "return commands[0].command_id"),
        properties.check_one_bad_command_is_set_aside_alone,
    ),
    "one bad command costs a reading of the shard for every half": (
        edit(Writer, "_isolate", "bad = await self._run(first_refused, self.recorder, flight.appends)", "pass"),
        properties.check_one_bad_command_is_set_aside_alone,
    ),
    "halves do not get smaller": (
        edit(Suspects, "refused", "if len(items) > 1:", "if False:"),
        properties.check_halves_find_it_when_the_database_can_not_be_asked,
    ),
    "a defect of the domain stops the writer": (
        edit(Writer, "_decide_new", "except _BAD_COMMAND", "except (AppendDataError, LookupError, TypeError)"),
        properties.check_one_bad_command_is_set_aside_alone,
    ),
    "an offset too many is passed": (
        edit(ShardBatch, "pass_offset", "offset + 1", "offset + 2"),
        properties.check_one_bad_command_is_set_aside_alone,
    ),
    "a deadline that is refused is acted on again": (
        lambda m: m.setattr(Suspects, "is_bad_deadline", lambda *_: False),
        properties.check_a_deadline_that_the_database_refuses_stops_nobody,
    ),
    "memory is kept after an unconfirmed commit": (
        edit(Writer, "_recover", "self.shards.clear()", "return {s: r.offset for s, r in self.shards.items()}"),
        properties.check_an_unconfirmed_commit_is_settled_by_the_store,
    ),
    "an owner that was replaced takes the shard back": (
        edit(Writer, "_reacquire", "h.shard in mine and h.epoch != mine[h.shard]", "False"),
        properties.check_another_owner_ends_this_one,
    ),
    "the chain does not hold the batch before": (
        # In the writer alone: a verifier with the same bug would agree with it.
        lambda m: m.setattr(events.deciding, "link", lambda _, *rest: events.chain.link(GENESIS, *rest)),
        properties.check_snapshot_and_tail_are_the_history,
    ),
    "a row's metadata is not hashed": (
        lambda m: m.setattr(events.deciding, "leaf_hash", lambda row: events.chain.leaf_hash(row[:40])),
        properties.check_snapshot_and_tail_are_the_history,
    ),
}  # fmt: skip


def _drop_deadlines(dumped: bytes) -> bytes:
    import orjson

    raw = orjson.loads(dumped)
    return orjson.dumps({**raw, "open": [[k, v, t, None] for k, v, t, _ in raw["open"]]})


@pytest.mark.parametrize("bug", BUGS)
async def test_a_planted_bug_is_caught(desk: Desk, bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, check = BUGS[bug]
    plant(monkeypatch)
    # An assertion of the property, or the engine's own refusal to go on.
    with pytest.raises((Exception, pytest.fail.Exception)):
        await asyncio.wait_for(check(desk), 60)
    monkeypatch.undo()
