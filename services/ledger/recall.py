"""What closed comes back: streams that a command needs although memory has let them go.

A transaction leaves memory when it is posted and a hold when it ends; most are never named again. A command that
does name one asks for its stream (:func:`needed`), and the engine hands the history over (:func:`take_in`).
Memory may be ahead of the store by what is decided and not yet committed, so what memory knows wins.
"""

from __future__ import annotations

from collections.abc import Sequence

from events.decider import EventMeta
from schemas.common.base import Command, Event
from schemas.ledger.commands import ExpireHold, PostHold, ReverseTransaction, VoidHold
from schemas.ledger.events import HoldExpired, HoldPlaced, TransactionPosted, TransactionReversed
from services.ledger.state import ClosedHold, Original, State


def needed(command: Command, state: State) -> Sequence[str]:
    """Streams to load before ``command`` is decided."""
    if isinstance(command, ReverseTransaction):
        return () if state.loaded.lasting(command.transaction_id) else (command.transaction_id,)
    if isinstance(command, PostHold | VoidHold | ExpireHold):
        ledger = state.ledgers.get(command.ledger_id)
        is_open = ledger is not None and command.hold_id in ledger.holds
        return () if is_open or state.ended.lasting(command.hold_id) else (command.hold_id,)
    return ()


def take_in(state: State, stream: str, history: Sequence[tuple[Event, EventMeta]]) -> None:
    """Remember what ``stream`` is, for the command that named it. A stream of another kind is no answer."""
    if not history:
        return
    first, last = history[0][0], history[-1][0]
    if isinstance(first, TransactionPosted):
        known = state.original(stream) or Original(first.ledger_id, first.entries)
        if isinstance(last, TransactionReversed):
            known.reversed_by = last.reversed_by
        state.loaded.put(stream, known)
    elif isinstance(first, HoldPlaced):
        ledger = state.ledgers.get(first.ledger_id)
        if ledger is None or stream not in ledger.holds:
            ended = state.ended.get(stream) or ClosedHold(first.ledger_id, isinstance(last, HoldExpired))
            state.ended.put(stream, ended)
