"""One batch of published events as it is appended again: the same rows, Merkle root and chain hash."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import orjson

from events.backup.past import PastEvent
from events.chain import link, merkle_root
from events.codec import Unit
from events.decider import Claim
from events.deciding import ShardRuntime
from events.store.append import ClaimRow, DeadLetter, ShardAppend, encode_result

S = TypeVar("S")


class PastBatch(Generic[S]):
    """Collects a batch of ``time_us`` (microseconds) for the shard of ``runtime``."""

    def __init__(self, runtime: ShardRuntime[S], time_us: int) -> None:
        self.time_us = time_us
        self.events: list[PastEvent] = []
        self.letters: list[DeadLetter] = []
        self._runtime = runtime
        self._first_position = runtime.position
        self._first_offset = runtime.offset
        self._results: list[bytes] = []
        self._claims: list[ClaimRow] = []

    def add(self, event: PastEvent) -> None:
        """The next event."""
        self.events.append(event)

    def answer(
        self,
        command: bytes,
        request_hash: bytes,
        outcome: int,
        result: dict[str, Any],
        position: int | None = None,
    ) -> None:
        """The answer of a command, at the position where the shard stands unless another is known."""
        runtime = self._runtime
        self._results.append(
            encode_result(
                command,
                request_hash,
                runtime.shard,
                runtime.position - 1 if position is None else position,
                outcome,
                orjson.dumps(result),
                self.time_us,
            )
        )

    def claim(self, claims: Sequence[Claim], unit: Unit, key: bytes) -> None:
        """What the command made its own."""
        for claim in claims:
            value = hmac.digest(key, claim.value.encode(), "sha256")
            self._claims.append(ClaimRow(claim.scope, value, unit.envelope.id))

    def finish(self) -> ShardAppend:
        """Everything, ready to be appended; the shard's memory moves on."""
        runtime = self._runtime
        root = merkle_root([e.leaf for e in self.events])
        runtime.chain = link(
            runtime.chain, runtime.shard, self._first_position, runtime.position - 1, self.time_us, root
        )
        runtime.time_us = self.time_us
        return ShardAppend(
            shard=runtime.shard,
            epoch=runtime.epoch,
            position=self._first_position,
            offset=self._first_offset,
            next_position=runtime.position,
            next_offset=runtime.offset,
            time_us=self.time_us,
            chain_hash=runtime.chain,
            root=root,
            rows=[e.row for e in self.events],
            results=self._results,
            claims=self._claims,
            dead_letters=self.letters,
        )
