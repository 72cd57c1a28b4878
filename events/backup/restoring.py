"""A restore from its loaded tables to a platform that may start.

Load (one transaction, marked as unfinished), roll forward from Kafka, verify every hash and balance, begin a new
history, and only then take the mark away. Killed anywhere, it is run again from the start: nothing that it does to
Kafka before the end is more than a repeat.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import psycopg
import structlog

from events.backup import marker
from events.backup.ahead import Ahead
from events.backup.forward import ShardRoll
from events.backup.lineage import Lineage
from events.backup.manifest import BackupError, Manifest
from events.backup.past import BrokenTopicError
from events.backup.report import RestoreReport, ShardForward
from events.backup.topics import (
    Published,
    TopicReader,
    commands_start,
    read_past,
    read_replies,
    scan_events,
)
from events.codec import CommandCodec
from events.decider import Decider
from events.producer import new_producer
from events.relay import CHUNK, Relay, from_row
from events.store import reading
from events.store.heads import Head, acquire, read_heads
from events.store.recorder import ShardRecorder, open_datastore
from events.store.tables import schema_name
from events.topics import commands_topic
from events.verify import verify_store
from nexafi.role import Health
from nexafi.settings import Settings
from schemas.common.outcomes import CommandIssued

log = structlog.get_logger(__name__)
#: The relay sends events, then the commands inside them: of the last two runs it may have sent the events only.
_REISSUED: Final = 2 * CHUNK
#: Replies are looked for from this long before the backup: clocks differ.
_BEFORE_MS: Final = 60_000


@dataclass
class _Store:
    """One service while it is restored."""

    decider: Decider[Any]
    recorder: ShardRecorder
    lineage: Lineage
    heads: list[Head]
    published: dict[int, Published] = field(default_factory=dict)
    shards: dict[int, ShardForward] = field(default_factory=dict)
    starts: dict[int, tuple[int, int]] = field(default_factory=dict)


class Restore:
    """What follows after :func:`events.backup.loading.load_stores`. Use as an asynchronous context."""

    def __init__(
        self,
        settings: Settings,
        manifest: Manifest,
        deciders: Mapping[str, Decider[Any]],
        progress: Callable[[str], None] = lambda _text: None,
        *,
        accept_loss: bool = False,
    ) -> None:
        self.accept_loss = accept_loss
        self.settings = settings
        self.manifest = manifest
        self.report = RestoreReport(manifest.id, manifest.made_at)
        self._deciders = deciders
        self._progress = progress
        self._stack = AsyncExitStack()
        self._stores: list[_Store] = []
        self._events: TopicReader
        self._commands: TopicReader

    async def __aenter__(self) -> Restore:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        self._events = await self._stack.enter_async_context(TopicReader(self.settings))
        self._commands = await self._stack.enter_async_context(TopicReader(self.settings))
        for entry in self.manifest.stores:
            recorder = ShardRecorder(
                open_datastore(self.settings.database, entry.service), service=entry.service
            )
            self._stack.callback(recorder.datastore.close)
            shards = [h.shard for h in read_heads(recorder)]
            heads = await asyncio.to_thread(acquire, recorder, shards, "restore")
            with recorder.connection() as conn:
                lineage = Lineage.read(conn, entry.service)
            self._stores.append(_Store(self._deciders[entry.service], recorder, lineage, heads))

    # ------------------------------------------------------------------ roll forward

    async def roll_forward(self) -> None:
        """Bring back what was committed after the backup."""
        began = time.perf_counter()
        for store in self._stores:
            for head in store.heads:
                await self._look(store, head)
            self._refuse_foreign(store)
        wanted = {
            (store.recorder.service, head.shard): (head.next_position - 1, store.published[head.shard].last)
            for store in self._stores
            for head in store.heads
        }
        made_ms = int(datetime.fromisoformat(self.manifest.made_at).timestamp() * 1000)
        replies = await read_replies(self._commands, self.settings, made_ms - _BEFORE_MS, wanted)
        for store in self._stores:
            for head in store.heads:
                await self._roll(store, head, replies[store.recorder.service, head.shard])
        self.report.seconds["rolled forward"] = round(time.perf_counter() - began, 2)

    async def _look(self, store: _Store, head: Head) -> None:
        """What the topics still have of this shard."""
        service = store.recorder.service
        shard = ShardForward(service, head.shard, backup_position=head.next_position - 1)
        store.shards[head.shard] = shard
        self.report.shards.append(shard)
        published = await scan_events(self._events, store.recorder, head)
        store.published[head.shard] = published
        if published.anchored or head.next_position == 1:
            shard.published_position = published.last
        else:
            shard.published_position = published.agrees_to
            self.report.losses.append(
                f"{service}.events[{head.shard}] does not have the backup's last event ({head.next_position - 1}): what "
                "was decided after the backup and was published only there is gone"
            )
        start, end, problem = await commands_start(self._commands, store.recorder, head)
        if problem:
            self.report.losses.append(problem)
            with store.recorder.connection() as conn:
                conn.execute(
                    f'UPDATE "{store.recorder.schema}".shard_head SET next_offset = %s WHERE shard = %s',
                    (start, head.shard),
                )
            head.next_offset = start
        store.starts[head.shard] = (start, end)

    def _refuse_foreign(self, store: _Store) -> None:
        """A shard that was empty has no event to recognise its topic by: its histories must be known from elsewhere."""
        known = set(store.lineage.names)
        for head in store.heads:
            if store.published[head.shard].anchored:
                known.update(name for name, _ in store.published[head.shard].histories)
        for head in store.heads:
            published = store.published[head.shard]
            foreign = [name for name, _ in published.histories if name not in known]
            if foreign:
                shard = store.shards[head.shard]
                shard.notes.append(
                    f"the events topic holds another history ({foreign[0]}), which is left alone"
                )
                published.histories, published.last = [], head.next_position - 1
                shard.published_position = 0

    async def _roll(self, store: _Store, head: Head, replies: dict[str, dict[str, Any]]) -> None:
        service, shard = store.recorder.service, store.shards[head.shard]
        published = store.published[head.shard]
        key = self.settings.hmac_key.get_secret_value().encode()
        roll: ShardRoll[Any] = ShardRoll(store.decider, store.recorder, head, key, replies, shard)
        start, end = store.starts[head.shard]
        ahead = Ahead(
            CommandCodec(service, store.decider.commands),
            store.recorder,
            self._commands.records(commands_topic(service), head.shard, start, end),
        )
        if published.last >= head.next_position or published.problem:
            past = read_past(self._events, service, head.shard, published, head.next_position - 1)
            try:
                await roll.take_back(past, ahead)
            except BrokenTopicError as error:
                if not self.accept_loss:
                    raise BackupError(f"{error}. --accept-loss restores what comes before it") from None
                self.report.losses.append(f"{error}: published events after {roll.position} are gone")
                published.last = shard.published_position = roll.position
        store.lineage.follow(head.shard, published)
        await roll.take_answered(ahead)
        shard.undecided = await ahead.rest()
        shard.position = roll.position
        shard.publishes_from = shard.published_position + 1
        if shard.events or shard.from_replies or shard.undecided:
            self._progress(
                f"{service}/{head.shard}: {shard.events:,} events back, {shard.answers + shard.refusals:,} answers, "
                f"{shard.from_replies:,} from replies, {shard.undecided:,} wait for the writer"
            )

    # ------------------------------------------------------------------ verify

    async def verify(self) -> None:
        """Recompute every hash, balance and snapshot; :class:`BackupError` when one is wrong."""
        began = time.perf_counter()
        for store in self._stores:
            for found in await asyncio.to_thread(verify_store, store.recorder, store.decider):
                if found.problem is not None:
                    raise BackupError(f"{found.service}/{found.shard} does not verify: {found.problem}")
                self.report.verified_events += found.events
        self.report.seconds["verified"] = round(time.perf_counter() - began, 2)

    # ------------------------------------------------------------------ end

    def begin_histories(self) -> list[Lineage]:
        """A new history for each store, from where its topic ends. Not written before :meth:`make_ready`."""
        for store in self._stores:
            history = str(uuid4())
            firsts = {shard: f.publishes_from for shard, f in store.shards.items()}
            store.lineage.begin(history, firsts, self.manifest.id)
            self.report.histories[store.recorder.service] = history
        return [s.lineage for s in self._stores]

    async def reissue(self) -> None:
        """Send the last published commands of sagas again; whoever has them answers as before."""
        producer = new_producer(self.settings, "restore")
        await producer.start()
        try:
            for store in self._stores:
                issued = f"{store.recorder.service}.{CommandIssued.TYPE}"
                if issued not in store.decider.events:
                    continue
                relay = Relay(store.recorder, producer, Health())
                for shard, forward in store.shards.items():
                    after = max(0, forward.published_position - _REISSUED)
                    for rows in reading.tail(store.recorder, shard, after, upto=forward.published_position):
                        for delivery in [await relay.issue(from_row(r)) for r in rows if r.topic == issued]:
                            await delivery
                            self.report.reissued += 1
        finally:
            await producer.stop()

    def make_ready(self, also: Callable[[psycopg.Connection[tuple[Any, ...]]], None]) -> None:
        """New histories, relay marks, ``also``, and the end of the mark, in one transaction."""
        with psycopg.connect(self.settings.database, application_name="nexafi-restore") as conn:
            for store in self._stores:
                store.lineage.save(conn)
                for shard, forward in store.shards.items():
                    conn.execute(
                        f'UPDATE "{schema_name(store.recorder.service)}".relay_marks SET position = %s WHERE shard = %s',
                        (forward.published_position, shard),
                    )
            also(conn)
            marker.end(conn)
