"""Rule: a release freezes the contracts; afterwards an addition is written and anything else is refused, by the command itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from cli.contracts import __main__ as command
from cli.contracts import documents, golden
from cli.contracts.jsonschema import models
from events import upcasting
from events.upcasting import UpcastError, Upcasters, next_version

Released = dict[str, dict[str, Any]]
EVENT, COMMAND = "ledger.transaction-posted.v1", "ledger.open-account.v1"


def released() -> Released:
    """The baseline that a release would write now."""
    found: Released = json.loads(documents.release())["schemas"]
    return deepcopy(found)


def a_field_was_removed(old: Released) -> None:
    old["events"][EVENT]["properties"]["gone"] = {"type": "string"}


def a_type_changed(old: Released) -> None:
    old["events"][EVENT]["properties"]["ledger_id"] = {"type": "integer"}


def a_command_asks_for_more(old: Released) -> None:
    old["commands"][COMMAND]["required"].remove("code")


def a_command_accepts_less(old: Released) -> None:
    old["commands"][COMMAND]["properties"]["currency"] = {"type": "integer"}


def a_type_is_gone(old: Released) -> None:
    old["events"]["ledger.forgotten.v1"] = {"type": "object", "properties": {}}


BREAKING: list[Callable[[Released], None]] = [
    a_field_was_removed,
    a_type_changed,
    a_command_asks_for_more,
    a_command_accepts_less,
    a_type_is_gone,
]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, bytes]]:
    """What the command would have written."""
    calls: list[dict[str, bytes]] = []

    def write(files: dict[str, bytes]) -> list[str]:
        calls.append(files)
        return []

    monkeypatch.setattr(documents, "write", write)
    return calls


@pytest.mark.parametrize("change", BREAKING, ids=lambda change: change.__name__)
@pytest.mark.parametrize("arguments", [[], ["--check"], ["--release"]], ids=["write", "check", "release"])
def test_a_breaking_change_is_refused_and_nothing_is_written(
    change: Callable[[Released], None],
    arguments: list[str],
    written: list[dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = released()
    change(old)
    monkeypatch.setattr(documents, "baseline", lambda: old)
    assert command.main(arguments) == 2
    said = capsys.readouterr().err
    assert "breaks a released contract: " in said
    assert "vN+1" in said
    assert written == []


def test_an_addition_is_written(written: list[dict[str, bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Today's contracts have an optional field and a type more than what was released."""
    old = released()
    del old["events"][EVENT]["properties"]["description"]
    del old["commands"][COMMAND]
    monkeypatch.setattr(documents, "baseline", lambda: old)
    assert command.main([]) == 0
    assert len(written) == 1


def test_a_release_freezes_every_contract(written: list[dict[str, bytes]]) -> None:
    assert command.main(["--release"]) == 0
    frozen = json.loads(written[0][documents.BASELINE])
    assert {kind: set(each) for kind, each in frozen["schemas"].items()} == {
        kind: set(each) for kind, each in models().items()
    }
    assert frozen["version"]


# --- upcasters


def v1_to_v2(data: dict[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in data.items() if key != "entries"}, "legs": data["entries"]}


def test_a_golden_sample_walks_up_the_chain_and_stays_as_it_is() -> None:
    chain = Upcasters()
    chain.register(EVENT, v1_to_v2)
    chain.register(next_version(EVENT), lambda data: data | {"channel": "unknown"})
    stored = golden.samples()[EVENT]
    data = json.loads(stored)
    type_, newest = chain.upcast(EVENT, data)
    assert type_ == "ledger.transaction-posted.v3"
    assert newest["legs"] == data["entries"]
    assert newest["channel"] == "unknown"
    assert "entries" not in newest
    assert json.loads(stored) == data, "a step changed what it was given"


def test_a_type_that_nothing_upcasts_is_left_as_it_is() -> None:
    data = {"a": 1}
    assert Upcasters().upcast("ledger.thing-happened.v7", data) == ("ledger.thing-happened.v7", data)


def test_a_second_step_from_one_version_is_refused() -> None:
    chain = Upcasters()
    chain.register(EVENT, v1_to_v2)
    with pytest.raises(UpcastError, match="already has"):
        chain.register(EVENT, v1_to_v2)
    with pytest.raises(UpcastError, match="not a versioned type"):
        chain.register("ledger.thing-happened", v1_to_v2)


def test_an_event_may_leave_when_an_upcaster_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    old = released()
    a_type_is_gone(old)
    assert documents.broken_since(old) == [
        "ledger.forgotten.v1: was removed; what was released stays readable for ever"
    ]
    chain = Upcasters()
    chain.register("ledger.forgotten.v1", lambda data: data)
    monkeypatch.setattr(upcasting, "UPCASTERS", chain)
    assert documents.broken_since(old) == []
