"""JSON Schema (2020-12) of every command, event and reply.

A command's schema is closed: an unknown field is refused, so nothing is assigned by accident. An event's
is open at every depth: whoever reads it ignores fields that a newer writer added.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from cli.contracts.catalog import all_commands, all_events
from schemas.common.outcomes import Bulk, CommandResult, Reply
from schemas.common.problems import Problem

Schema = dict[str, Any]
Kind = Literal["commands", "events", "replies"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Base of every ``$id``; a name, not a place that must answer.
BASE = "https://nexafi.dev/schemas"
#: What is neither a command nor an event of one service.
REPLIES: dict[str, type[BaseModel]] = {
    "nexafi.command-result.v1": CommandResult,
    "nexafi.reply.v1": Reply,
    "nexafi.problem.v1": Problem,
}
COMMON_COMMANDS: dict[str, type[BaseModel]] = {Bulk.TYPE: Bulk}


class _Plain(GenerateJsonSchema):
    """Without a title that only repeats a field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - a hook of pydantic
        return False


def models() -> dict[Kind, dict[str, type[BaseModel]]]:
    """Every model that has a schema, by kind and type."""
    return {
        "commands": {**all_commands(), **COMMON_COMMANDS},
        "events": dict(all_events()),
        "replies": REPLIES,
    }


def schema_of(kind: Kind, type_: str, model: type[BaseModel], example: object = None) -> Schema:
    """The schema of one type, with its ``$id`` and, when there is one, a golden sample as example."""
    # An optional field of an event stays optional for readers: history from before the field lacks it.
    schema = model.model_json_schema(mode="validation", schema_generator=_Plain)
    if kind != "commands":
        schema = opened(schema)
    head: Schema = {"$schema": DIALECT, "$id": f"{BASE}/{kind}/{type_}.json"}
    if example is not None:
        schema["examples"] = [example]
    return head | schema | {"title": type_}


def opened(schema: Any) -> Any:
    """The same schema without ``additionalProperties: false`` at any depth."""
    if isinstance(schema, dict):
        return {
            key: opened(value)
            for key, value in schema.items()
            if not (key == "additionalProperties" and value is False)
        }
    if isinstance(schema, list):
        return [opened(each) for each in schema]
    return schema
