"""What closed comes back: streams that a command names although memory has let them go.

A transaction leaves memory when it is posted and a hold when it ends; most are never named again. A command that
does name one asks for its stream (:func:`needed`), and the engine hands its history over (:func:`take_in`),
uncommitted events of this batch and of the one in flight included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from events.decider import EventMeta
from schemas.common.base import Command, Event
from schemas.ledger.commands import ExpireHold, PostHold, ReverseTransaction, VoidHold
from schemas.ledger.events import HoldExpired, HoldPlaced, TransactionPosted, TransactionReversed
from services.ledger.state import ClosedHold, Original, State

V = TypeVar("V")
#: Closed transactions, and closed holds, that stay after they were loaded for a command.
KEEP: Final = 1_000


def needed(command: Command, state: State) -> Sequence[str]:
    """Streams to load before ``command`` is decided."""
    ask = _ASK.get(type(command))
    return ask(command, state) if ask is not None else ()


def take_in(state: State, stream: str, history: Sequence[tuple[Event, EventMeta]]) -> None:
    """Remember what ``stream`` is, for the command that named it. A stream of another kind is no answer."""
    if not history:
        return
    first, last = history[0][0], history[-1][0]
    if isinstance(first, TransactionPosted):
        reversed_by = last.reversed_by if isinstance(last, TransactionReversed) else None
        saga_id = history[0][1].saga_id
        _keep(state.originals, stream, Original(first.ledger_id, first.entries, saga_id, reversed_by))
    elif isinstance(first, HoldPlaced):
        _keep(state.ended, stream, ClosedHold(first.ledger_id, isinstance(last, HoldExpired)))


def _keep(memory: dict[str, V], stream: str, value: V) -> None:
    memory.pop(stream, None)
    memory[stream] = value
    if len(memory) > KEEP:
        del memory[next(iter(memory))]  # the one that was loaded longest ago


def _transaction(command: ReverseTransaction, _: State) -> Sequence[str]:
    return (command.transaction_id,)


def _unless_open(command: PostHold | VoidHold | ExpireHold, state: State) -> Sequence[str]:
    ledger = state.ledgers.get(command.ledger_id)
    return () if ledger is not None and command.hold_id in ledger.holds else (command.hold_id,)


_ASK: Final[dict[type[Command], Callable[[Any, State], Sequence[str]]]] = {
    ReverseTransaction: _transaction,
    PostHold: _unless_open,
    VoidHold: _unless_open,
    ExpireHold: _unless_open,
}
