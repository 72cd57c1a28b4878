"""The event streams in the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from gateway.hub import ENDS
from gateway.streams import SCOPE

_ID: Final = {"type": "string", "format": "uuid"}
#: Structured mode of CloudEvents 1.0 with our extension attributes; the same names as on Kafka, without ``ce_``.
CLOUD_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "required": [
        "specversion",
        "id",
        "type",
        "source",
        "subject",
        "time",
        "tenant",
        "actor",
        "history",
        "shard",
        "position",
        "streamversion",
        "correlationid",
        "causationid",
        "data",
    ],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "description": "Follows from the event's content."},
        "type": {"type": "string", "examples": ["payments.payment-settled.v1"]},
        "source": {"type": "string", "examples": ["nexafi/payments"]},
        "subject": {**_ID, "description": "The stream: an account's ledger, a payment, a case."},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "tenant": {"type": "string"},
        "actor": {"type": "string"},
        "history": {**_ID, "description": "Positions count within it; a restore begins another."},
        "shard": {"type": "integer"},
        "position": {"type": "integer", "description": "Without gaps within the shard."},
        "streamversion": {"type": "integer"},
        "correlationid": {"type": "string", "description": "The command that everything began with."},
        "causationid": {"type": "string"},
        "sagaid": {"type": "string"},
        "data": {"type": "object", "description": "As `schemas/json` says for the type."},
    },
}
_PARAMETERS: Final = [
    {
        "name": "Last-Event-ID",
        "in": "header",
        "schema": {"type": "string"},
        "description": "The last `id` that was received: the stream goes on behind it, nothing is lost or repeated.",
    },
    {
        "name": "after",
        "in": "query",
        "schema": {"type": "string"},
        "description": "The same, for a client that can not set the header.",
    },
]


def events(errors: dict[str, Any]) -> dict[str, Any]:
    """``GET /v1/events``."""
    return {
        "operationId": "get-events",
        "summary": "Follow the tenant's events",
        "description": "Only events of services that the caller may read. " + _stream(),
        "security": [{"oauth2": [SCOPE]}, {"apiKey": []}],
        "parameters": [
            {
                "name": "types",
                "in": "query",
                "schema": {"type": "string"},
                "example": "payments.*,ledger.transaction-posted.v1",
                "description": "Types, or beginnings of types that end with `*`, separated by commas.",
            },
            {
                "name": "correlation",
                "in": "query",
                "schema": {"type": "string", "pattern": "^[0-9a-zA-Z_.:-]{1,64}$"},
                "description": "Only what began with this command.",
            },
            *_PARAMETERS,
        ],
        "responses": {"200": _answer(), **errors},
    }


def operation_events(errors: dict[str, Any], identifier: dict[str, Any]) -> dict[str, Any]:
    """``GET /v1/operations/{operation_id}/events``."""
    return {
        "operationId": "get-operation-events",
        "summary": "Follow what a command caused, until that has ended",
        "description": "First an event named `operation` with the outcome. For a payment the stream goes on until it "
        "has settled or failed. " + _stream(),
        "security": [{"oauth2": [SCOPE]}, {"apiKey": []}],
        "parameters": [identifier, *_PARAMETERS],
        "responses": {"200": _answer(), **errors},
    }


def _stream() -> str:
    reasons = "; ".join(f"`{code}`: {text}" for code, text in ENDS.items())
    return f"The last event is named `end` and says why. Reasons: {reasons}"


def _answer() -> dict[str, Any]:
    return {
        "description": "Server-sent events; the data of each is a CloudEvent, its id a consistency token.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "x-event-data": {"$ref": "#/components/schemas/CloudEvent"},
            }
        },
    }
