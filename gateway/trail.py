"""What belongs to an operation: the events that its command caused, and whether what it began has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from events.subscription import RawEvent
from gateway.feed import Event

_PAYMENT_ENDS: Final = frozenset({"payments.payment-settled.v1", "payments.payment-failed.v1"})
#: What an operation begins beyond its own result, and what ends that.
BEGINS: Final[Mapping[str, frozenset[str]]] = {
    "payments.payment-initiated.v1": _PAYMENT_ENDS,
    "payments.cancellation-requested.v1": _PAYMENT_ENDS,
    "payments.refund-requested.v1": frozenset({"payments.refund-settled.v1", "payments.refund-failed.v1"}),
}


class Trail:
    """Which events belong to an operation, and whether what it began has ended."""

    def __init__(self, command_id: str) -> None:
        self._command_id = command_id
        self._subject = ""
        self._mark = b""
        self._awaited: frozenset[str] = frozenset()
        self.last: Event | None = None

    def follow(self, result: Mapping[str, Any]) -> None:
        """Follow the payment that the command is about, also when it came in a bulk or a timer went on with it.

        A payment may have several refunds under way: of its events those that name this one belong here.
        """
        self._subject = str(result.get("payment_id", ""))
        self._mark = str(result.get("refund_id", "")).encode()

    def ids(self) -> list[str]:
        """What is asked of history."""
        return [i for i in (self._command_id, self._subject) if i]

    def concerns(self, event: Event) -> bool:
        """Whether the event belongs to the operation."""
        if self._command_id in (event.correlation, event.causation):
            return True
        return self._subject in (event.subject, event.saga) and self._marked(event.body)

    def concerns_raw(self, event: RawEvent) -> bool:
        """The same, of a record."""
        headers = event.headers
        command, subject = self._command_id.encode(), self._subject.encode()
        if command in (headers.get("ce_correlationid"), headers.get("ce_causationid")):
            return True
        return subject in (headers.get("ce_subject"), headers.get("ce_sagaid")) and self._marked(event.value)

    def _marked(self, data: bytes) -> bool:
        return self._subject != "" and self._mark in data

    def note(self, event: Event) -> bool:
        """Take an event into account; whether it is the one that ends all."""
        if event.causation == self._command_id and event.type in BEGINS:
            self._awaited = BEGINS[event.type]
        elif event.type in self._awaited and self._mark in event.body:
            self.last = event
            return True
        return False

    def has_ended(self) -> bool:
        """Whether nothing more is to come."""
        return self.last is not None or not self._awaited
