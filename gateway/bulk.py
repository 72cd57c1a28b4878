"""Many independent commands in one request: each is accepted or refused by itself, and says so.

The body is a JSON array or NDJSON. Item *i* is the command ``derived_id(bulk, i)``, where the bulk's id comes
from the ``Idempotency-Key`` like any command's: sending the bulk again repeats no item. Items travel in Kafka
records of at most :data:`CHUNK_ITEMS`, a bounded number of a tenant's records at a time, so the bulk of one
tenant leaves room between its records for the commands of others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import orjson
from pydantic import ValidationError
from pydantic_core import from_json

from gateway.bodies import BodyModel, bound, problem_of, refuse_repeated
from gateway.commands import Desk, idempotency_key, preferred_wait, seen_token
from gateway.edge import JSON, Answer, Request
from gateway.flights import ItemAnswer, reused
from gateway.reasons import refusal
from gateway.routes import CommandRoute
from nexafi.ids import command_id, derived_id, derived_ids, partition_for, shard_of
from nexafi.problems import ProblemError, pointer_of
from schemas.common import tokens
from schemas.common.envelope import CommandEnvelope
from schemas.common.outcomes import Bulk

CHUNK_ITEMS: Final = 500
CHUNK_BYTES: Final = 800 * 1024
#: Without a preference a bulk waits this long; what is pending then has an operation of its own.
WAIT_S: Final = 30.0
_ROOM_POLL_S: Final = 0.02
_NDJSON: Final = frozenset({b"application/x-ndjson", b"application/jsonl", b"application/ndjson"})


@dataclass(slots=True)
class Item:
    """One command of a bulk. ``problem`` is JSON bytes when the item never became a command."""

    command_id: str
    shard: int = 0
    digest: str = ""
    data: bytes = b""
    problem: bytes | None = None
    answer: ItemAnswer | None = None


@dataclass(slots=True)
class Chunk:
    """Items that share a Kafka record."""

    shard: int
    items: list[Item] = field(default_factory=list)
    size: int = 0

    def record_id(self, bulk: str) -> str:
        """The same items of the same bulk are the same record: a retry joins the one on its way."""
        content = sha256("".join([item.command_id + item.digest for item in self.items]).encode())
        return derived_id(bulk, "record", content.hexdigest())


class TenantGates:
    """How many chunks of each tenant are on their way; a tenant that has none holds nothing here."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._gates: dict[str, tuple[asyncio.Semaphore, int]] = {}

    def enter(self, tenant: str) -> asyncio.Semaphore:
        """The tenant's gate; :meth:`leave` when the request is done."""
        gate, users = self._gates.get(tenant) or (asyncio.Semaphore(self._limit), 0)
        self._gates[tenant] = (gate, users + 1)
        return gate

    def leave(self, tenant: str) -> None:
        """One request less; the last one takes the gate away."""
        gate, users = self._gates[tenant]
        if users == 1:
            del self._gates[tenant]
        else:
            self._gates[tenant] = (gate, users - 1)


class BulkEndpoint:
    """The bulk form of one command route."""

    def __init__(self, route: CommandRoute, desk: Desk, gates: TenantGates) -> None:
        self.route = route
        self.desk = desk
        self.gates = gates
        self.body = BodyModel(route)
        self._type = route.command.TYPE
        self._shards = desk.settings.shard_count(route.service)
        self._sources = tuple(f"{route.service}/{shard}" for shard in range(self._shards))
        self._limit = desk.settings.max_bulk_commands

    async def __call__(self, request: Request) -> Answer:
        """Send all items and answer for each."""
        seen = seen_token(request, self._sources)
        key = idempotency_key(request)
        wait_s = preferred_wait(request) or (
            0.0 if b"respond-async" in request.headers.get(b"prefer", b"") else WAIT_S
        )
        values = self._read(request, await request.body())
        principal = request.principal
        bulk = command_id(principal.tenant, principal.actor, "POST", request.path, key)
        items = self._items(bulk, values, request.params)
        chunks = list(self._chunks(items))
        deadline = asyncio.get_running_loop().time() + wait_s
        gate = self.gates.enter(principal.tenant)
        try:
            sending = [
                asyncio.create_task(self._fly(gate, request, bulk, chunk, deadline)) for chunk in chunks
            ]
            outcomes = await asyncio.gather(*sending, return_exceptions=True)
        finally:
            self.gates.leave(principal.tenant)
        failures = [o for o in outcomes if isinstance(o, BaseException)]
        for failure in failures:
            if not isinstance(failure, ProblemError):
                raise failure
        if failures and len(failures) == len(chunks):
            raise failures[0]  # nothing was sent: the request as a whole can be tried again
        return self._answer(request, items, seen)

    # --- reading

    def _read(self, request: Request, body: bytes) -> list[Any]:
        """Validated items; in the place of one that is not valid its problem as bytes."""
        bound(body)
        kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind in _NDJSON:
            values = self._read_lines(body)
        elif kind == b"application/json":
            values = self._read_array(body)
        else:
            raise ProblemError(
                "unsupported-media-type",
                "Send application/json or application/x-ndjson.",
                pointer="Content-Type",
            )
        if not values:
            raise ProblemError("validation-failed", "A bulk has at least one item.", pointer="")
        return values

    def _read_array(self, body: bytes) -> list[Any]:
        try:
            values = self._fitting(self.body.read_many(body))
        except ValidationError:
            pass  # some item is not valid: find out which, one by one
        else:
            refuse_repeated(body)
            return values
        try:
            parsed = from_json(body, cache_strings="keys")
        except ValueError as error:
            raise ProblemError("malformed-json", f"Invalid JSON: {str(error)[:160]}", pointer="") from None
        if not isinstance(parsed, list):
            raise ProblemError("validation-failed", "A bulk is a JSON array, or NDJSON.", pointer="")
        self._fitting(parsed)
        refuse_repeated(body)
        return [self._judged(i, self.body.read_python, value) for i, value in enumerate(parsed)]

    def _read_lines(self, body: bytes) -> list[Any]:
        """Each line by itself: read as one text, two lines could make up a value, or one line hold two."""
        lines = self._fitting([line for line in body.split(b"\n") if line.strip()])
        return [self._judged(i, self.body.read_line, line) for i, line in enumerate(lines)]

    def _judged(self, index: int, read: Callable[[Any], Any], value: Any) -> Any:
        """What ``read`` makes of one item, or its problem as bytes."""
        try:
            return read(value)
        except ValidationError as error:
            problem = problem_of(error)
            first = (
                error.errors(include_url=False, include_input=False)[0] if error.error_count() < 100 else None
            )
            problem.pointer = pointer_of([index, *(first["loc"] if first else ())])
            problem.extra.pop("errors", None)
        except ProblemError as malformed:
            problem = malformed
            problem.pointer = f"/{index}"
        return problem.body()

    def _fitting(self, values: list[Any]) -> list[Any]:
        if len(values) > self._limit:
            raise ProblemError("body-too-large", f"A bulk has at most {self._limit} items.", pointer="")
        return values

    # --- naming and packing

    def _items(self, bulk: str, values: list[Any], params: dict[str, str]) -> list[Item]:
        fixed: int | None = None
        if self.route.shard_from is not None:
            fixed = shard_of(params[self.route.shard_from])
            if fixed >= self._shards:
                raise ProblemError("not-found")
        of, kind, data_of, shards = self.desk.digests.of, self._type, self.body.data, self._shards
        order = self.body.canonical
        out = []
        for identifier, value in zip(derived_ids(bulk, len(values)), values, strict=True):
            if type(value) is bytes:
                out.append(Item(identifier, problem=value))
                continue
            data = data_of(order(value), params)
            shard = partition_for(identifier, shards) if fixed is None else fixed
            out.append(Item(identifier, shard, of(kind, data), data))
        return out

    def _chunks(self, items: list[Item]) -> Iterator[Chunk]:
        open_chunks: dict[int, Chunk] = {}
        for item in items:
            if item.problem is not None:
                continue
            chunk = open_chunks.get(item.shard)
            size = len(item.data) + len(self._type) + 200
            if chunk is not None and (len(chunk.items) >= CHUNK_ITEMS or chunk.size + size > CHUNK_BYTES):
                yield chunk
                chunk = None
            if chunk is None:
                chunk = open_chunks[item.shard] = Chunk(item.shard)
            chunk.items.append(item)
            chunk.size += size
        yield from open_chunks.values()

    # --- flying

    async def _fly(
        self, gate: asyncio.Semaphore, request: Request, bulk: str, chunk: Chunk, deadline: float
    ) -> None:
        """Send one chunk when the tenant's gate lets it, and see it answered before the next may go."""
        flights, tenant = self.desk.flights, request.principal.tenant
        lane = f"{self.route.service}/{chunk.shard}"
        record = chunk.record_id(bulk)
        async with gate:
            try:
                flight = flights.find(record, record)  # the same bulk may be on its way already: wait with it
                if flight is None:
                    await self._room(lane, tenant, len(chunk.items), deadline)
                    flight = flights.depart(record, record, lane, tenant, len(chunk.items))
                    envelope = self._envelope(request, bulk, record)
                    self.desk.send(flight, self.route.service, chunk.shard, envelope, self._record(chunk))
                await flights.wait(flight, deadline - asyncio.get_running_loop().time())
            except ProblemError as problem:
                body = problem.body()
                for item in chunk.items:
                    item.problem = body
                raise
        for index, answer in flight.items.items():
            chunk.items[index].answer = answer

    async def _room(self, lane: str, tenant: str, count: int, deadline: float) -> None:
        """Wait for places, since a bulk can; 429 when there are none until its deadline."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                self.desk.flights.room(lane, tenant, count)
            except ProblemError:
                if loop.time() >= deadline:
                    raise
                await asyncio.sleep(_ROOM_POLL_S)
            else:
                return

    def _envelope(self, request: Request, bulk: str, record: str) -> CommandEnvelope:
        principal = request.principal
        return CommandEnvelope(
            record,
            Bulk.TYPE,
            principal.tenant,
            principal.actor,
            reply_to=self.desk.reply_to,
            correlation_id=bulk,
            traceparent=request.traceparent,
            time_us=time.time_ns() // 1000,
        )

    def _record(self, chunk: Chunk) -> bytes:
        kind = self._type
        parts = [
            b'{"id":"%b","hash":"%b","type":"%b","data":%b}'
            % (item.command_id.encode(), item.digest.encode(), kind.encode(), item.data)
            for item in chunk.items
        ]
        return b'{"items":[' + b",".join(parts) + b"]}"

    # --- answering

    def _answer(self, request: Request, items: list[Item], seen: str) -> Answer:
        counts = {"accepted": 0, "rejected": 0, "pending": 0}
        positions = tokens.decode(seen)
        results: list[dict[str, Any]] = []
        make, service, tenant = self.desk.operations.make, self.route.service, request.principal.tenant
        for index, item in enumerate(items):
            if item.problem is not None:
                counts["rejected"] += 1
                results.append(
                    {"index": index, "status": "rejected", "problem": orjson.Fragment(item.problem)}
                )
                continue
            operation = make(service, item.shard, item.command_id, tenant, item.digest)
            told: dict[str, Any] = {"index": index, "operation": f"/v1/operations/{operation}"}
            answer = item.answer
            if answer is None:
                counts["pending"] += 1
                results.append(told | {"status": "pending"})
                continue
            source = f"{service}/{item.shard}"
            if answer["position"] > positions.get(source, 0):
                positions[source] = answer["position"]
            results.append(told | self._settled(index, answer, counts))
        body = orjson.dumps({"counts": counts, "results": results})
        header = (tokens.HEADER.lower().encode(), tokens.encode(positions).encode())
        return Answer(200, [JSON, header], body)

    def _settled(self, index: int, answer: ItemAnswer, counts: dict[str, int]) -> dict[str, Any]:
        result, conflict = answer["result"], answer["conflict"]
        if answer["outcome"] == "accepted" and not conflict:
            counts["accepted"] += 1
            return {"status": "accepted", "result": result}
        counts["rejected"] += 1
        if conflict:
            problem = reused()
        else:
            problem = refusal(result, wrap=self.route.wrap, path_fields=self.body.path_fields)
            if problem.pointer is not None and problem.pointer[:1] != "{":
                problem.pointer = f"/{index}{problem.pointer}"
        return {"status": "rejected", "problem": orjson.Fragment(problem.body())}
