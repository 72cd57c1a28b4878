"""From records to rows: decode what a view takes in, have its rows read, fold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from pydantic_core import from_json
from sqlalchemy import Table

from events.subscription import RawEvent, Source
from events.upcasting import UPCASTERS
from projections.intake import Taken
from projections.unit import Unit
from projections.view import Data, Handler, Key, Meta, View
from schemas.ai.events import EVENTS as AI
from schemas.auth.events import EVENTS as AUTH
from schemas.common.envelope import MalformedEnvelopeError, micros
from schemas.common.outcomes import CommandIssued, CommandRefused
from schemas.compliance.events import EVENTS as COMPLIANCE
from schemas.ledger.events import EVENTS as LEDGER
from schemas.payments.events import EVENTS as PAYMENTS
from schemas.sagas.events import EVENTS as SAGAS

_CONTRACTS: Final[Mapping[str, Mapping[str, object]]] = {
    "ledger": LEDGER,
    "payments": PAYMENTS,
    "compliance": COMPLIANCE,
    "ai": AI,
    "auth": AUTH,
    "payment-saga": SAGAS,
}
#: Event types that may be published. Another one means that this code is older than the writer.
KNOWN_TYPES: Final = frozenset(
    type_
    for service, types in _CONTRACTS.items()
    for type_ in (*types, f"{service}.{CommandRefused.TYPE}", f"{service}.{CommandIssued.TYPE}")
)

#: Rows that name other rows are found in rounds; more than this is a view that runs in circles.
_MAX_ROUNDS: Final = 4

Load = Callable[[str, list[Key]], Awaitable[None]]


class UnknownEventError(Exception):
    """An event type that this code does not know: it must not be passed over."""


class FoldError(Exception):
    """An event could not be taken in; the shard stops before it."""

    def __init__(self, source: Source, position: int, type_: str, cause: BaseException) -> None:
        super().__init__(
            f"event {position} ({type_}) of {source[0]}/{source[1]}: {type(cause).__name__}: {cause}"
        )
        self.source = source
        self.position = position


class Decoded(NamedTuple):
    """An event that the view takes in."""

    handler: Handler
    data: Data
    meta: Meta


def decode(view: View, taken: Sequence[Taken]) -> list[Decoded]:
    """The events that ``view`` takes in, parsed; the others cost a look at their type."""
    out: list[Decoded] = []
    times: dict[bytes, int] = {}
    for one in taken:
        try:
            decoded = _decode(view, one, times)
        except Exception as error:  # whatever it was, the shard must stop here
            type_ = one.event.headers.get("ce_type", b"no type").decode("latin-1")
            raise FoldError(one.source, one.position, type_, error) from error
        if decoded is not None:
            out.append(decoded)
    return out


def _decode(view: View, taken: Taken, times: dict[bytes, int]) -> Decoded | None:
    event, source = taken.event, taken.source
    type_ = event.type
    data: Data | None = None
    if type_ in UPCASTERS:
        type_, data = UPCASTERS.upcast(type_, from_json(event.value))
    if view.each is not None:
        return Decoded(Handler(view.each, None), {}, _meta(event, source, taken.position, type_, times))
    handler = view.handlers.get(type_)
    if handler is None:
        if type_ not in KNOWN_TYPES:
            raise UnknownEventError("this code does not know the type: it is older than the writer")
        return None
    if data is None:
        data = from_json(event.value)
    return Decoded(handler, data, _meta(event, source, taken.position, type_, times))


def _meta(event: RawEvent, source: Source, position: int, type_: str, times: dict[bytes, int]) -> Meta:
    headers = event.headers
    try:
        stamp = headers["ce_time"]
        time_us = times.get(stamp)
        if time_us is None:
            time_us = times[stamp] = micros(stamp.decode())
        return Meta(
            type_,
            source[0],
            source[1],
            position,
            time_us,
            headers["ce_tenant"].decode(),
            headers["ce_actor"].decode(),
            headers["ce_correlationid"].decode(),
            event,
        )
    except KeyError as error:
        raise MalformedEnvelopeError(f"header {error.args[0]} is missing") from None


async def prepare(view: View, unit: Unit, decoded: Sequence[Decoded], load: Load) -> None:
    """Have every row read that the events name."""
    for _ in range(_MAX_ROUNDS):
        missing = unit.missing(_wanted(view, unit, decoded))
        if not missing:
            return
        for table, keys in missing.items():
            await load(table, keys)
    raise RuntimeError(f"view {view.name} asks for rows without end")


def _wanted(view: View, unit: Unit, decoded: Sequence[Decoded]) -> Iterable[tuple[Table, Key]]:
    if view.each_reads is not None:
        reads: Any = view.each_reads
        return chain.from_iterable(reads(d.meta) for d in decoded)
    return chain.from_iterable(
        d.handler.reads(d.data, d.meta, unit) for d in decoded if d.handler.reads is not None
    )


def fold(unit: Unit, decoded: Sequence[Decoded]) -> None:
    """Apply the events in order. After an error the unit is worthless."""
    for handler, data, meta in decoded:
        try:
            handler.fold(data, meta, unit)
        except Exception as error:
            raise FoldError((meta.service, meta.shard), meta.position, meta.type, error) from error
