"""Golden histories are recorded here, once: ``python -m tests.kit.stories`` runs real domains through a short story.

What was released is never recorded again; see ``cli/contracts/golden.py`` for what the files mean.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cli.contracts.documents import baseline
from cli.contracts.golden import FOLDER, frozen, sample_path, sha256
from events.decider import Accepted, Decider, Emit, EventMeta
from nexafi.ids import derived_id
from nexafi.settings import Settings
from sagas.payment.policy import Policy
from schemas.common.base import Command, Event
from schemas.common.outcomes import CommandIssued, CommandRefused
from schemas.compliance.events import CaseOpened
from schemas.sagas.commands import ObserveEvent
from services.ai.domain import AiDecider
from services.compliance.domain import ComplianceDecider
from services.compliance.sanctions import load_screener
from tests.kit.deciders import decider_classes
from tests.kit.risk import PlantedScorer
from tests.kit.scenario import ROOT, START_US, Outcome, Scenario

#: Services whose events the router copies to the saga even when no saga caused them.
_ALWAYS_OBSERVED = {
    "payments.payment-initiated.v1",
    "payments.cancellation-requested.v1",
    "payments.refund-requested.v1",
    "compliance.case-decided.v1",
}
SHARD = 3
#: A name of the bundled sanctions list.
LISTED_NAME = "Banco Nacional de Cuba"


class Teller(Scenario):
    """A scenario that keeps the commands it was given and the types of what happened."""

    def __init__(self, decider: Decider[Any]) -> None:
        super().__init__(decider, shard=SHARD)
        self.commands: dict[str, Command] = {}

    def when(self, command: Command, **options: Any) -> Outcome:
        """As the base, and the first command of each type becomes a sample."""
        self.commands.setdefault(command.TYPE, command)
        return super().when(command, **options)

    def do(self, command: Command, **options: Any) -> dict[str, Any]:
        """A command that is accepted; its result."""
        return self.when(command, **options).accepted()

    def next_id(self) -> str:
        """A command id that nothing else has."""
        return derived_id(ROOT, self.decider.service, len(self.log))

    def type_of(self, event: Event) -> str:
        """The stored type: the engine's own events carry the service in front."""
        own = isinstance(event, CommandIssued | CommandRefused)
        return f"{self.decider.service}.{event.TYPE}" if own else event.TYPE


@dataclass
class Platform:
    """All services on one shard each; what a saga sends arrives, and what concerns a saga is observed."""

    tellers: dict[str, Teller] = field(default_factory=dict)
    now_us: int = START_US
    seen: dict[str, int] = field(default_factory=dict)
    decided: set[str] = field(default_factory=set)

    def __getitem__(self, service: str) -> Teller:
        return self.tellers[service]

    @property
    def listed_name(self) -> str:
        """A name on the sanctions list that the compliance service was given."""
        return LISTED_NAME

    def open_case(self) -> str:
        """The case that was opened last."""
        opened = [emit for emit, _ in self["compliance"].log if isinstance(emit.event, CaseOpened)]
        return opened[-1].stream

    def time_out(self) -> None:
        """The saga hears of everything else but is not heard, and its deadline passes."""
        for service, teller in self.tellers.items():
            if service != "payment-saga":
                for position in range(self.seen.get(service, 0), len(teller.log)):
                    self.seen[service] = position + 1
                    self._carry(service, position)
        saga = self["payment-saga"]
        saga.at(self.now_us + Policy().step_timeout_us + 1)
        assert saga.run_due(), "no deadline has passed"

    def settle(self) -> None:
        """Carry messages until nothing moves."""
        moved = True
        while moved:
            moved = False
            for service, teller in self.tellers.items():
                for position in range(self.seen.get(service, 0), len(teller.log)):
                    self.seen[service] = position + 1
                    moved = self._carry(service, position) or moved

    def _carry(self, service: str, position: int) -> bool:
        emit, meta = self[service].log[position]
        self.now_us = max(self.now_us, *(teller.now_us for teller in self.tellers.values()))
        if isinstance(emit.event, CommandIssued):
            return self._deliver(emit.event)
        type_ = self[service].type_of(emit.event)
        saga_id = meta.saga_id or (getattr(emit.event, "payment_id", "") if type_ in _ALWAYS_OBSERVED else "")
        if service == "payment-saga" or not saga_id:
            return False
        self._tell("payment-saga", self._observation(service, type_, saga_id, emit, meta), "", "")
        return True

    def _observation(self, service: str, type_: str, saga_id: str, emit: Emit, meta: EventMeta) -> Command:
        return ObserveEvent(
            saga_id=saga_id,
            event_id=derived_id(emit.stream, emit.version),
            event_type=type_,
            store=service,
            shard=SHARD,
            position=meta.position,
            time_us=meta.time_us,
            tenant=meta.tenant,
            actor=meta.actor,
            data=emit.event.model_dump(mode="json"),
        )

    def _deliver(self, issued: CommandIssued) -> bool:
        model = self[issued.target].decider.commands[issued.command_type]
        self._tell(issued.target, model.model_validate(issued.data), issued.saga_id, issued.command_id)
        return True

    def _tell(self, service: str, command: Command, saga_id: str, command_id: str) -> None:
        if command_id in self.decided:
            return  # the engine answers from its results
        if command_id:
            self.decided.add(command_id)
        teller = self[service].at(max(self.now_us, self[service].now_us))
        outcome = teller.when(command, saga_id=saga_id, command_id=command_id or None)
        if not isinstance(outcome.decision, Accepted) and saga_id:
            refused = CommandRefused(
                command_id=command_id,
                command_type=command.TYPE,
                saga_id=saga_id,
                reason=outcome.decision.reason,
                detail=outcome.decision.detail,
            )
            self.refuse(teller, refused)

    def refuse(self, teller: Teller, refused: CommandRefused) -> None:
        """What the engine appends for a refusal addressed to a saga; the domain does not see it."""
        meta = EventMeta(
            refused.command_id,
            1,
            teller.now_us,
            teller.tenant,
            teller.actor,
            "",
            len(teller.log) + 1,
            refused.saga_id,
        )
        teller.log.append((Emit(refused.command_id, 1, refused), meta))


def history_of(teller: Teller) -> bytes:
    """The golden history: an event a line, its data as the text that is stored."""
    lines = [
        json.dumps(
            {
                "type": teller.type_of(emit.event),
                "stream": emit.stream,
                "version": emit.version,
                "time_us": meta.time_us,
                "tenant": meta.tenant,
                "actor": meta.actor,
                "saga_id": meta.saga_id,
                "data": emit.event.to_json().decode(),
            },
            ensure_ascii=False,
        )
        for emit, meta in teller.log
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def samples_of(teller: Teller) -> dict[str, bytes]:
    """Type -> bytes of the first command and the first event of each type."""
    found = {type_: command.model_dump_json().encode() for type_, command in teller.commands.items()}
    for emit, _ in teller.log:
        found.setdefault(teller.type_of(emit.event), emit.event.to_json())
    return found


def write(platform: Platform) -> list[str]:
    """Write samples, histories and digests; a released sample must come out as it was. Names of what is new."""
    released = {type_ for kind in baseline().values() for type_ in kind}
    new: list[str] = []
    digests: dict[str, Any] = {"samples": {}, "histories": {}}
    (FOLDER / "histories").mkdir(parents=True, exist_ok=True)
    for service, teller in sorted(platform.tellers.items()):
        for type_, data in sorted(samples_of(teller).items()):
            path = sample_path(type_)
            if type_ in released and path.is_file():
                data = frozen(path)  # noqa: PLW2901 - what was released stays
            elif not path.is_file() or frozen(path) != data:
                path.write_bytes(data + b"\n")
                new.append(type_)
            digests["samples"][type_] = sha256(data)
        history = history_of(teller)
        (FOLDER / "histories" / f"{service}.ndjson").write_bytes(history)
        digests["histories"][service] = {
            "events": len(teller.log),
            "bytes": sha256(history),
            "state_version": teller.decider.state_version,
            "state": sha256(teller.decider.dump(teller.state)),
        }
    (FOLDER / "digests.json").write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")
    return new


def playing() -> dict[str, Callable[[], Decider[Any]]]:
    """Service -> its domain with all that it needs to decide."""
    return {
        **decider_classes(),
        "compliance": lambda: ComplianceDecider(load_screener(Settings())),
        "ai": lambda: AiDecider(PlantedScorer()),
    }


def main() -> int:
    """Record, and say what is new."""
    from tests.kit.story import tell

    if baseline():
        print(
            "The contracts are released: golden histories are frozen. Add the sample of a new type by hand."
        )
        return 1
    platform = Platform({service: Teller(make()) for service, make in playing().items()})
    tell(platform)
    new = write(platform)
    print("\n".join([*new, f"{len(new)} samples are new"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
