"""Rule: what is in the contracts is what the domains know: no command without a decider, no event without a reader."""

from __future__ import annotations

import pickle

import pytest

from cli.contracts.catalog import all_commands, all_events, catalog
from cli.contracts.golden import samples
from cli.deciders import DECIDERS, decider_of
from cli.roles import ROLES
from schemas.common.outcomes import CommandRefused
from tests.kit.deciders import decider_classes


def test_every_service_has_contracts_a_decider_and_a_role() -> None:
    assert catalog().keys() == decider_classes().keys()
    assert decider_classes().keys() <= ROLES.keys()


@pytest.mark.parametrize("service", sorted(DECIDERS))
def test_a_verifier_of_another_process_gets_every_decider(service: str) -> None:
    """Large stores are verified on every core; a domain that can not travel there would stop the whole verification."""
    there = pickle.loads(pickle.dumps(decider_of(service)))
    assert type(there) is type(decider_of(service))
    assert there.dump(there.initial(0)) == decider_of(service).dump(decider_of(service).initial(0))


def test_every_command_is_known_to_the_decider_of_its_service() -> None:
    known = {t: m for decider in decider_classes().values() for t, m in decider.commands.items()}
    assert known == all_commands()


def test_every_event_is_known_to_the_decider_of_its_service() -> None:
    for service, decider in decider_classes().items():
        by_engine = {f"{service}.{CommandRefused.TYPE}"}
        assert decider.events.keys() | by_engine == catalog()[service].events.keys(), service
        for type_, model in decider.events.items():
            assert all_events()[type_] is model, type_


def test_a_type_is_named_after_its_service_and_carries_a_version() -> None:
    for service, each in catalog().items():
        for type_, model in {**each.commands, **each.events}.items():
            assert type_.startswith(f"{service}."), type_
            assert type_.rsplit(".v", 1)[1].isdecimal(), type_
            assert type_.endswith(model.TYPE), type_


def test_every_command_and_event_has_a_golden_sample() -> None:
    missing = {*all_commands(), *all_events()} - samples().keys()
    assert missing == set()
