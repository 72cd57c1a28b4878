"""Rule: inside a version a contract only grows; the checker finds every other change."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from cli.contracts.compatibility import UnknownKeywordError, breaking
from cli.contracts.jsonschema import Kind, models, schema_of
from schemas.common.base import Command, Contract, Event


class Leg(Contract):
    account: str
    amount: Annotated[int, Field(strict=True, gt=0, le=1000)]


BASE: dict[str, Any] = {
    "name": (str, ...),
    "side": (Literal["debit", "credit"], ...),
    "amount": (Annotated[int, Field(strict=True, gt=0, le=1000)], ...),
    "note": (str, ""),
    "limit": (int | None, None),
    "legs": (list[Leg], ...),
    "code": (Annotated[str, Field(pattern=r"^[a-z]+$")], "a"),
    "metadata": (dict[str, str], Field(default_factory=dict)),
}


def schema(kind: Kind, changes: dict[str, Any] | None = None, without: str = "") -> dict[str, Any]:
    fields = {name: f for name, f in (BASE | (changes or {})).items() if name != without}
    base: type[BaseModel] = Command if kind == "commands" else Event
    return schema_of(kind, "x.y.v1", create_model("M", __base__=base, **fields))


class WiderLeg(Contract):
    account: str
    amount: Annotated[int, Field(strict=True, gt=0, le=1000)]
    memo: str = ""


class StricterLeg(Contract):
    account: str
    amount: Annotated[int, Field(strict=True, gt=0, le=1000)]
    memo: str


ADDITIONS = {
    "optional field": {"extra": (str, "")},
    "optional nullable field": {"extra": (int | None, None)},
    "optional field in a list item": {"legs": (list[WiderLeg], ...)},
    "nothing": {},
}


@pytest.mark.parametrize("change", ADDITIONS.values(), ids=ADDITIONS)
@pytest.mark.parametrize("kind", ["commands", "events"])
def test_an_addition_is_compatible(kind: Kind, change: dict[str, Any]) -> None:
    assert breaking(kind, schema(kind), schema(kind, change)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"amount": (Annotated[int, Field(strict=True, gt=0, le=2000)], ...)},
        {"side": (Literal["debit", "credit", "both"], ...)},
        {"name": (str, "now optional")},
        {"limit": (int | str | None, None)},
    ],
    ids=["wider bound", "another choice", "optional", "another type"],
)
def test_a_command_may_accept_more_but_an_event_may_not_say_more(change: dict[str, Any]) -> None:
    assert breaking("commands", schema("commands"), schema("commands", change)) == []
    assert len(breaking("events", schema("events"), schema("events", change))) >= 1


BREAKING: dict[str, dict[str, Any]] = {
    "new required field": {"extra": (str, ...)},
    "new required field in a list item": {"legs": (list[StricterLeg], ...)},
    "optional became required": {"note": (str, ...)},
    "another type": {"name": (int, ...)},
    "string instead of integer": {"amount": (str, ...)},
    "integer became number": {"amount": (Annotated[str, Field(pattern="^[0-9]+$")], ...)},
    "no longer nullable": {"limit": (int, 0)},
    "a choice removed": {"side": (Literal["debit"], ...)},
    "lower maximum": {"amount": (Annotated[int, Field(strict=True, gt=0, le=10)], ...)},
    "higher minimum": {"amount": (Annotated[int, Field(strict=True, gt=5, le=1000)], ...)},
    "another pattern": {"code": (Annotated[str, Field(pattern=r"^[A-Z]+$")], "A")},
    "a new pattern": {"name": (Annotated[str, Field(pattern=r"^x")], ...)},
    "a new length": {"name": (Annotated[str, Field(max_length=3)], ...)},
    "list became object": {"legs": (Leg, ...)},
    "values of a map": {"metadata": (dict[str, int], Field(default_factory=dict))},
}


@pytest.mark.parametrize("change", BREAKING.values(), ids=BREAKING)
@pytest.mark.parametrize("kind", ["commands", "events"])
def test_a_planted_breaking_change_is_found(kind: Kind, change: dict[str, Any]) -> None:
    found = breaking(kind, schema(kind), schema(kind, change))
    assert len(found) >= 1, change


@pytest.mark.parametrize("name", BASE)
@pytest.mark.parametrize("kind", ["commands", "events"])
def test_removing_a_field_is_found(kind: Kind, name: str) -> None:
    assert f"/{name}: was removed" in breaking(kind, schema(kind), schema(kind, without=name))


def test_another_default_changes_what_old_history_means() -> None:
    change = {"note": (str, "changed")}
    assert breaking("events", schema("events"), schema("events", change)) == [
        "/note: default '' became 'changed'"
    ]
    assert breaking("commands", schema("commands"), schema("commands", change)) == []


def test_closing_an_open_object_is_found() -> None:
    old = {"type": "object", "properties": {}}
    assert breaking("commands", old, old | {"additionalProperties": False}) == [
        "/: unknown fields are no longer allowed"
    ]


def test_a_keyword_that_can_not_be_judged_is_refused() -> None:
    with pytest.raises(UnknownKeywordError):
        breaking("events", {"type": "object", "not": {}}, {"type": "object"})


def test_every_contract_of_ours_can_be_judged_and_equals_itself() -> None:
    for kind, each in models().items():
        for type_, model in each.items():
            one = schema_of(kind, type_, model)
            assert breaking(kind, one, one) == [], type_
