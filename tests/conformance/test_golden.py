"""Promise R23: what was ever released stays readable. Golden bytes are frozen and replay to golden digests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cli.contracts import golden
from cli.contracts.catalog import all_commands, all_events
from cli.contracts.jsonschema import Kind, models, schema_of
from events.decider import Decider, EventMeta
from events.loading import EventDecoder
from events.upcasting import UPCASTERS
from tests.kit.deciders import decider_classes

SERVICES = sorted(decider_classes())


def replay(decider: Decider[Any], *, until: int | None = None) -> bytes:
    """The digestible state after the golden history, read exactly as the engine reads its store."""
    decoder = EventDecoder(decider)
    state = decider.initial(3)
    for position, each in enumerate(golden.history(decider.service), start=1):
        if until is not None and position > until:
            break
        event = decoder.decode(each.type, each.data)
        if event is not None:
            meta = EventMeta(
                each.stream, each.version, each.time_us, each.tenant, each.actor, "", position, each.saga_id
            )
            state = decider.evolve(state, event, meta)
    decider.check(state)
    return decider.dump(state)


@pytest.mark.parametrize("service", SERVICES)
def test_every_history_replays_to_its_golden_digest(service: str) -> None:
    decider = decider_classes()[service]()
    recorded = golden.digests()["histories"][service]
    assert recorded["state_version"] == decider.state_version, (
        "a new state version gets a new recorded digest"
    )
    assert golden.sha256(replay(decider)) == recorded["state"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_snapshot_of_a_golden_history_loads_to_the_same_state(service: str) -> None:
    decider = decider_classes()[service]()
    state = replay(decider)
    assert decider.dump(decider.load(state)) == state


@pytest.mark.parametrize("service", SERVICES)
def test_every_event_of_a_history_counts(service: str) -> None:
    """The digest would notice if the last events were not applied."""
    decider = decider_classes()[service]()
    events = golden.digests()["histories"][service]["events"]
    states = {golden.sha256(replay(decider, until=n)) for n in range(events + 1)}
    assert len(states) >= events // 3


def test_golden_files_are_frozen() -> None:
    recorded = golden.digests()
    assert {t: golden.sha256(data) for t, data in golden.samples().items()} == recorded["samples"]
    for service, each in recorded["histories"].items():
        path = golden.FOLDER / "histories" / f"{service}.ndjson"
        assert golden.sha256(path.read_bytes()) == each["bytes"], service
        assert len(list(golden.history(service))) == each["events"], service


@pytest.mark.parametrize("type_", sorted(golden.samples()))
def test_every_sample_is_readable(type_: str) -> None:
    data = golden.samples()[type_]
    if type_ in all_commands():
        assert all_commands()[type_].model_validate_json(data).model_dump_json().encode() == data
        return
    newest, value = UPCASTERS.upcast(type_, json.loads(data))
    event = all_events()[newest].model_validate(value, extra="ignore")
    if newest == type_:
        assert event.to_json() == data, "an event is stored in other bytes than it was"
        assert all_events()[type_].from_json(data) == event


@pytest.mark.parametrize("kind", ["commands", "events"])
def test_every_sample_satisfies_its_json_schema(kind: Kind) -> None:
    samples = golden.samples()
    checked = 0
    for type_, model in models()[kind].items():
        schema = schema_of(kind, type_, model)
        Draft202012Validator.check_schema(schema)
        if type_ in samples:
            Draft202012Validator(schema).validate(json.loads(samples[type_]))
            checked += 1
    assert checked > 20


def test_amounts_over_64_bits_survive() -> None:
    largest = max(
        entry["amount"]
        for each in golden.history("ledger")
        if each.type == "ledger.transaction-posted.v1"
        for entry in json.loads(each.data)["entries"]
    )
    assert largest > 2**64
    assert b'"amount":%d' % largest in b"".join(each.data for each in golden.history("ledger"))


def test_a_reader_ignores_what_a_newer_writer_added_at_any_depth() -> None:
    for type_, model in all_events().items():
        data = json.loads(golden.samples()[type_])
        assert model.from_json(json.dumps(_with_more(data))) == model.from_json(json.dumps(data)), type_


def _with_more(value: Any) -> Any:
    """The same value with an unknown field in every object that has fields of its own (not in maps)."""
    if isinstance(value, dict):
        more = {k: v if k in _MAPS else _with_more(v) for k, v in value.items()}
        return more | {"added_later": {"x": 1}}
    return [_with_more(each) for each in value] if isinstance(value, list) else value


_MAPS = {"metadata", "token", "features", "state", "data"}


def test_a_changed_sample_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = golden.digests()["samples"]
    (tmp_path / "x.y.v1.json").write_bytes(b'{"a":1}\n')
    monkeypatch.setattr(golden, "FOLDER", tmp_path)
    assert {t: golden.sha256(data) for t, data in golden.samples().items()} != recorded
