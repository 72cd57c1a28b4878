"""One step of a saga: a copy of the flow that handlers change, and the commands they send."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sagas.payment.flow import PaymentFlow, RefundFlow
from sagas.payment.policy import Policy
from sagas.payment.sending import Send
from schemas.sagas.commands import ObserveEvent

F = TypeVar("F", PaymentFlow, RefundFlow)


@dataclass(slots=True)
class Turn(Generic[F]):
    """What one observation or timer makes of a flow. ``ended`` is (outcome, reason) once all is done."""

    flow: F
    now_us: int
    policy: Policy
    sends: list[Send] = field(default_factory=list)
    ended: tuple[str, str | None] | None = None

    @classmethod
    def of(cls, flow: F, now_us: int, policy: Policy) -> Turn[F]:
        """A turn on a copy of ``flow``."""
        copy = flow.copy()
        copy.number += 1
        return cls(copy, now_us, policy)

    def note(self, event: ObserveEvent) -> None:
        """Remember how far into the event's store this saga has heard."""
        store = f"{event.store}/{event.shard}"
        self.flow.seen[store] = max(self.flow.seen.get(store, 0), event.position)

    def go(self, step: str, *, wait_us: int | None = None) -> None:
        """Begin to wait for ``step``."""
        self.flow.step = step
        self.flow.attempts = 0
        self.wait(wait_us)

    def again(self) -> None:
        """Go on waiting for the same step after a deadline passed."""
        self.flow.attempts += 1
        self.wait()

    def wait(self, wait_us: int | None = None) -> None:
        """Set the deadline."""
        self.flow.deadline_us = self.now_us + (self.policy.step_timeout_us if wait_us is None else wait_us)

    def send(self, *sends: Send) -> None:
        """Send commands, in this order."""
        self.sends.extend(sends)

    @property
    def tired(self) -> bool:
        """Whether the step's commands were sent again as often as the policy allows."""
        return self.flow.attempts >= self.policy.retries
