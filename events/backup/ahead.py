"""The commands of a shard that come after the backup, read only as far ahead as is asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence

from events.backup.topics import Record
from events.codec import BadRecord, CommandCodec, Unit, id_to_bytes
from events.errors import UnreadableRecordError
from events.store import reading
from events.store.recorder import ShardRecorder


class Ahead:
    """A queue of units and unreadable records in the order of the topic.

    Memory: the ids of all commands decided since the backup, and the records between a command and the event that is
    asked about. When an event's command is nowhere (:meth:`reaches` is false), all that is left of the topic is held.
    """

    def __init__(
        self, codec: CommandCodec, recorder: ShardRecorder, records: AsyncIterator[list[Record]]
    ) -> None:
        self._codec = codec
        self._recorder = recorder
        self._records = records
        self._queue: deque[Unit | BadRecord] = deque()
        self._waiting: dict[str, int] = {}
        self._known: set[bytes] = set()
        self._ended = False

    async def reaches(self, command: str) -> bool:
        """Whether the command is still to come."""
        while command not in self._waiting:
            if not await self._fill():
                return False
        return True

    async def peek(self) -> Unit | BadRecord | None:
        """The next one, which stays; ``None`` at the end."""
        while not self._queue:
            if not await self._fill():
                return None
        return self._queue[0]

    def until(self, command: str) -> Iterator[Unit]:
        """The commands before ``command``, which :meth:`reaches`; all stay."""
        for item in self._queue:
            if isinstance(item, Unit):
                if item.envelope.id == command:
                    return
                yield item

    def pop(self) -> Unit | BadRecord:
        """Take the next one; ask :meth:`peek` or :meth:`reaches` first."""
        item = self._queue.popleft()
        if isinstance(item, Unit):
            left = self._waiting[item.envelope.id] - 1
            if left:
                self._waiting[item.envelope.id] = left
            else:
                del self._waiting[item.envelope.id]
        return item

    def is_known(self, unit: Unit) -> bool:
        """Whether the command was decided before: in the backup, or since."""
        return unit.id_bytes in self._known

    def decided(self, unit: Unit) -> None:
        """From now on a repeat."""
        self._known.add(unit.id_bytes)

    async def known_among(self, commands: Sequence[str]) -> set[str]:
        """Of these commands, those that have an answer."""
        found = reading.results(self._recorder, [id_to_bytes(c) for c in commands]) if commands else {}
        return {c for c in commands if id_to_bytes(c) in found}

    async def rest(self) -> int:
        """How many are left; nothing can be asked afterwards."""
        count = len(self._queue)
        self._queue.clear()
        while await self._fill():
            count += len(self._queue)
            self._queue.clear()
        return count

    async def _fill(self) -> bool:
        if self._ended:
            return False
        try:
            records = await anext(self._records)
        except StopAsyncIteration:
            self._ended = True
            return False
        items: list[Unit | BadRecord] = []
        for record in records:
            try:
                items.extend(self._codec.decode(record))
            except UnreadableRecordError as error:
                items.append(BadRecord(record.partition, record.offset, record, error))
        units = [i for i in items if isinstance(i, Unit)]
        asked = [u.id_bytes for u in units if u.id_bytes not in self._known]
        if asked:
            self._known.update(reading.results(self._recorder, asked))
        for unit in units:
            self._waiting[unit.envelope.id] = self._waiting.get(unit.envelope.id, 0) + 1
        self._queue.extend(items)
        return True
