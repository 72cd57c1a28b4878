"""AsyncAPI 3 of the topics: what arrives, what is published, with which headers, keys and partitions.

Generated for a consumer in any language that has nothing of ours: the document is complete in itself.
"""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel

from cli.contracts.catalog import ServiceContracts, catalog
from cli.contracts.golden import sample
from cli.contracts.jsonschema import COMMON_COMMANDS, REPLIES, Kind, Schema, schema_of
from nexafi.settings import Settings

VERSION = "3.0.0"
_UUID = {"type": "string", "format": "uuid"}
_TIME = {"type": "string", "format": "date-time", "description": "UTC with microseconds."}
_TRACE = {"type": "string", "description": "W3C trace context."}
_SAGA = {**_UUID, "description": "The saga on whose behalf it was; absent for anybody else."}

#: CloudEvents 1.0 attributes in the Kafka protocol binding, binary content mode.
_COMMON_HEADERS: dict[str, Any] = {
    "ce_specversion": {"type": "string", "const": "1.0"},
    "ce_id": {"type": "string"},
    "ce_type": {"type": "string", "description": "Name and version of the message."},
    "ce_source": {"type": "string"},
    "ce_time": _TIME,
    "ce_tenant": {"type": "string", "description": "Owner of the data."},
    "ce_actor": {"type": "string", "description": "Who asked: a client, an API key, an officer, the system."},
    "ce_correlationid": {
        "type": "string",
        "description": "The same for everything that one request set off.",
    },
    "ce_traceparent": _TRACE,
    "ce_sagaid": _SAGA,
    "content-type": {"type": "string", "const": "application/json"},
}
_COMMAND_HEADERS = {
    **_COMMON_HEADERS,
    "ce_id": {**_UUID, "description": "The same request is the same command, for ever."},
    "ce_requesthash": {"type": "string", "description": "HMAC-SHA-256 of the canonical body, hexadecimal."},
    "ce_replyto": {"type": "string", "description": "`gw:<partition>` of nexafi.replies, `saga`, or empty."},
}
_EVENT_HEADERS = {
    **_COMMON_HEADERS,
    "ce_id": {
        "type": "string",
        "pattern": "^[0-9a-f]{32}$",
        "description": "From the event's leaf in the chain.",
    },
    "ce_subject": {"type": "string", "description": "The stream: id of the thing that changed."},
    "ce_history": {**_UUID, "description": "Changes when a store is restored from a backup."},
    "ce_shard": {"type": "string", "pattern": "^[0-9]+$", "description": "Equals the partition."},
    "ce_position": {
        "type": "string",
        "pattern": "^[1-9][0-9]*$",
        "description": "Gapless within a shard, from 1. Drop what is not above the last (history, position) seen.",
    },
    "ce_streamversion": {"type": "string", "pattern": "^[1-9][0-9]*$"},
    "ce_causationid": {"type": "string", "description": "The command that caused it."},
}
_OPTIONAL = {"ce_traceparent", "ce_sagaid"}


def document(version: str) -> dict[str, Any]:
    """The whole document. ``version`` is the release of NexaFi that it describes."""
    settings = Settings.model_construct()
    builder = _Builder()
    for each in catalog().values():
        builder.service(each, settings.shard_count(each.service))
    builder.replies(settings.reply_partitions)
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "NexaFi topics",
            "version": version,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "description": inspect.cleandoc(_ABOUT),
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": f"127.0.0.1:{settings.port('kafka')}",
                "protocol": "kafka",
                "description": "The broker of `./dev up`.",
            }
        },
        "channels": builder.channels,
        "operations": builder.operations,
        "components": {
            "messages": builder.messages,
            "schemas": dict(sorted(builder.schemas.items())),
        },
    }


_ABOUT = """
    Commands go in, events come out. Every record is a CloudEvent in binary content mode: the value is the
    JSON of the data, everything about it is in `ce_*` headers.

    Within a partition, events stand in the order of their history without a gap in `ce_position`; across
    partitions there is no order. Delivery is at least once: keep the last `(ce_history, ce_position)` of each
    partition and drop what is not above it. Readers ignore fields and types that they do not know.

    Amounts are integers of minor units with up to 38 digits: read them with a parser that keeps integers exact.
"""


class _Builder:
    """Collects channels, operations, messages and schemas; every name is used once."""

    def __init__(self) -> None:
        self.channels: dict[str, Any] = {}
        self.operations: dict[str, Any] = {}
        self.messages: dict[str, Any] = {}
        self.schemas: dict[str, Schema] = {
            "CommandHeaders": _headers(_COMMAND_HEADERS),
            "EventHeaders": _headers(_EVENT_HEADERS),
        }

    def service(self, each: ServiceContracts, partitions: int) -> None:
        """The two topics of a service."""
        commands: dict[str, type[BaseModel]] = {**each.commands, **COMMON_COMMANDS}
        self._channel(
            f"{each.service}.commands",
            f"What the {each.service} service is asked. {each.commands_about}",
            partitions,
            "commands",
            commands,
            "receive",
        )
        self._channel(
            f"{each.service}.events",
            f"What happened in the {each.service} service, in the order of its history. {each.events_about}",
            partitions,
            "events",
            dict(each.events),
            "send",
        )

    def replies(self, partitions: int) -> None:
        """The topic on which gateways hear early what became of their commands."""
        name = "nexafi.reply.v1"
        self._channel(
            "nexafi.replies",
            "Hints that make answers fast; the stored result is the truth. One partition per gateway.",
            partitions,
            "replies",
            {name: REPLIES[name]},
            "send",
        )

    def _channel(
        self,
        topic: str,
        about: str,
        partitions: int,
        kind: Kind,
        types: dict[str, type[BaseModel]],
        action: str,
    ) -> None:
        identifier = topic.replace(".", "-")
        messages = {}
        for type_, model in types.items():
            key = f"{kind.removesuffix('s')}.{type_}"
            if key not in self.messages:
                self._message(key, kind, type_, model)
            messages[type_] = {"$ref": f"#/components/messages/{key}"}
        self.channels[identifier] = {
            "address": topic,
            "description": about,
            "servers": [{"$ref": "#/servers/local"}],
            "messages": messages,
            "bindings": {"kafka": {"topic": topic, "partitions": partitions, "bindingVersion": "0.5.0"}},
        }
        self.operations[f"{action}-{identifier}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{identifier}"},
            "summary": about,
        }

    def _message(self, key: str, kind: Kind, type_: str, model: type[BaseModel]) -> None:
        schema = schema_of(kind, type_, model)
        for name, definition in schema.pop("$defs", {}).items():
            self.schemas[f"{key}.{name}"] = _renamed(definition, key)
        for keyword in ("$schema", "$id"):
            schema.pop(keyword)
        self.schemas[key] = _renamed(schema, key)
        message: dict[str, Any] = {
            "name": type_,
            "title": model.__name__,
            "summary": inspect.cleandoc(model.__doc__ or "").split("\n\n")[0].replace("\n", " "),
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{key}"},
        }
        if kind != "replies":
            message["headers"] = {
                "$ref": f"#/components/schemas/{'Command' if kind == 'commands' else 'Event'}Headers"
            }
            same_as = "The command, as in ce_id." if kind == "commands" else "The stream, as in ce_subject."
            record_key = {**_UUID, "description": same_as}
            message["bindings"] = {"kafka": {"key": record_key, "bindingVersion": "0.5.0"}}
            message["correlationId"] = {"location": "$message.header#/ce_correlationid"}
        example = sample(type_)
        if example is not None:
            message["examples"] = [{"name": "golden", "payload": example}]
        self.messages[key] = message


def _headers(properties: dict[str, Any]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in _OPTIONAL],
    }


def _renamed(schema: Any, key: str) -> Any:
    """``#/$defs/X`` -> ``#/components/schemas/<key>.X``."""
    if isinstance(schema, dict):
        return {
            name: f"#/components/schemas/{key}.{value.rsplit('/', 1)[-1]}"
            if name == "$ref" and isinstance(value, str)
            else _renamed(value, key)
            for name, value in schema.items()
        }
    if isinstance(schema, list):
        return [_renamed(each, key) for each in schema]
    return schema
