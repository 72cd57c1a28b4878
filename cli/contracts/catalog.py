"""Which commands and events exist, found by reading ``schemas/<context>/{commands,events}.py``.

Adding a type to its module is enough; nothing is registered a second time.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import schemas
from schemas.common.base import Command, Event
from schemas.common.outcomes import CommandIssued, CommandRefused


@dataclass(frozen=True)
class ServiceContracts:
    """Everything that one service takes in and says; keys are CloudEvents types as they stand on the topics."""

    service: str
    context: str
    commands_about: str
    events_about: str
    commands: Mapping[str, type[Command]]
    events: Mapping[str, type[Event]]


@lru_cache(maxsize=1)
def catalog() -> Mapping[str, ServiceContracts]:
    """Contracts of every service by its name, in alphabetical order."""
    found: dict[str, ServiceContracts] = {}
    for module in pkgutil.iter_modules(schemas.__path__):
        if not module.ispkg or module.name == "common":
            continue
        contracts = _context(module.name)
        if contracts is not None:
            found[contracts.service] = contracts
    return dict(sorted(found.items()))


def all_commands() -> dict[str, type[Command]]:
    """Every command of every service by its type."""
    return {type_: model for each in catalog().values() for type_, model in each.commands.items()}


def all_events() -> dict[str, type[Event]]:
    """Every event of every service by its type, those of the engine included."""
    return {type_: model for each in catalog().values() for type_, model in each.events.items()}


def _about(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().splitlines()[0]


def _context(name: str) -> ServiceContracts | None:
    try:
        commands = importlib.import_module(f"schemas.{name}.commands")
        events = importlib.import_module(f"schemas.{name}.events")
    except ModuleNotFoundError as error:
        if error.name in {f"schemas.{name}.commands", f"schemas.{name}.events"}:
            return None  # a context without commands keeps only API models
        raise
    services = {type_.split(".", 1)[0] for type_ in (*commands.COMMANDS, *events.EVENTS)}
    if len(services) != 1:
        raise ValueError(f"schemas/{name} mixes types of several services: {sorted(services)}")
    (service,) = services
    written_by_engine: dict[str, type[Event]] = {f"{service}.{CommandRefused.TYPE}": CommandRefused}
    if name == "sagas":
        written_by_engine[f"{service}.{CommandIssued.TYPE}"] = CommandIssued
    return ServiceContracts(
        service,
        name,
        _about(commands),
        _about(events),
        dict(sorted(commands.COMMANDS.items())),
        dict(sorted((events.EVENTS | written_by_engine).items())),
    )
