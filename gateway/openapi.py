"""OpenAPI 3.1 of the public API, made from the route tables and the contracts."""

from __future__ import annotations

from typing import Any, Final

from pydantic.json_schema import models_json_schema

from gateway import openapi_streams as streams
from gateway.bodies import BodyModel
from gateway.routes import COMMANDS, QUERIES, CommandRoute, QueryRoute
from schemas.common.problems import MEDIA_TYPE, Problem
from schemas.common.scopes import SCOPES

_REF: Final = "#/components/schemas/{model}"
_ID: Final = {"type": "string", "format": "uuid"}
_TOKEN: Final = {
    "name": "Consistency-Token",
    "in": "header",
    "schema": {"type": "string"},
    "description": "Read what this token has seen.",
}
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_PREFER: Final = {"name": "Prefer", "in": "header", "schema": {"type": "string"}, "example": "wait=5"}
_OPERATION_ID: Final = {"name": "operation_id", "in": "path", "required": True, "schema": {"type": "string"}}
_OPERATION: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id", "status"],
    "properties": {
        "id": {"type": "string"},
        "status": {"enum": ["pending", "accepted", "rejected", "failed"]},
        "result": {"type": "object"},
        "problem": {"$ref": "#/components/schemas/Problem"},
    },
}
_BULK: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["counts", "results"],
    "properties": {
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "status"],
                "properties": {
                    "index": {"type": "integer"},
                    "status": {"enum": ["pending", "accepted", "rejected"]},
                    "operation": {
                        "type": "string",
                        "description": "Path of the item's operation; absent when it never became a command.",
                    },
                    "result": {"type": "object"},
                    "problem": {"$ref": "#/components/schemas/Problem"},
                },
            },
        },
    },
}
_PROBLEMS: Final = {
    "400": "The request can not be read.",
    "401": "No principal.",
    "403": "The principal lacks the scope.",
    "404": "There is no such object (or it is not yours).",
    "409": "The state of the object refuses the command.",
    "413": "The body is too large.",
    "415": "Not a supported media type.",
    "422": "The command is refused.",
    "429": "Too much is under way; see Retry-After.",
    "503": "A part of the platform is away; nothing is half done.",
}


def document() -> dict[str, Any]:
    """The whole document as JSON values."""
    bodies = {route: BodyModel(route).model for route in COMMANDS}
    modes = [(model, "validation") for model in dict.fromkeys(bodies.values())]
    modes.append((Problem, "serialization"))
    refs, definitions = models_json_schema(modes, ref_template=_REF)  # type: ignore[arg-type]
    schemas: dict[str, Any] = dict(definitions.get("$defs", {}))
    schemas |= {
        "Operation": _OPERATION,
        "CloudEvent": streams.CLOUD_EVENT,
        "BulkResult": _BULK,
        "Object": {"type": "object"},
    }
    schemas["Page"] = {
        "type": "object",
        "required": ["items", "next_cursor"],
        "properties": {
            "items": {"type": "array", "items": {"type": "object"}},
            "next_cursor": {"type": ["string", "null"]},
        },
    }
    paths: dict[str, dict[str, Any]] = {}
    for route, model in bodies.items():
        ref = refs[model, "validation"]
        paths.setdefault(route.path, {})[route.method.lower()] = _command(route, ref)
        if route.bulk is not None:
            paths.setdefault(route.bulk, {})["post"] = _bulk(route, ref)
    for query in QUERIES:
        paths.setdefault(query.path, {})["get"] = _query(query)
    paths["/v1/operations/{operation_id}"] = {"get": _operation()}
    paths["/v1/operations/{operation_id}/events"] = {
        "get": streams.operation_events(_errors(), _OPERATION_ID)
    }
    paths["/v1/events"] = {"get": streams.events(_errors())}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "NexaFi",
            "version": "1",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "responses": {c: _problem(text) for c, text in _PROBLEMS.items()},
            "securitySchemes": {
                "oauth2": {
                    "type": "oauth2",
                    "flows": {
                        "clientCredentials": {
                            "tokenUrl": "/oauth/token",
                            "scopes": dict(sorted(SCOPES.items())),
                        }
                    },
                },
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key as a bearer token.",
                },
            },
        },
    }


def _problem(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _errors(*extra: str) -> dict[str, Any]:
    codes = ["400", "401", "403", "404", "429", "503", *extra]
    return {code: {"$ref": f"#/components/responses/{code}"} for code in sorted(codes)}


def _security(scope: str) -> list[dict[str, list[str]]]:
    return [{"oauth2": [scope]}, {"apiKey": []}]


def _path(names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{"name": n, "in": "path", "required": True, "schema": _ID} for n in names]


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _name(method: str, path: str) -> str:
    parts = [p.strip("{}") for p in path.split("/")[2:]]
    return "-".join([method.lower(), *parts]).replace("_", "-")


def _command(route: CommandRoute, ref: Any) -> dict[str, Any]:
    answer = {
        "description": "The command is accepted.",
        "content": _json({"$ref": "#/components/schemas/Operation"}),
    }
    later = {
        "description": "The command is on its way; see Location.",
        "content": _json({"$ref": "#/components/schemas/Operation"}),
    }
    return {
        "operationId": _name(route.method, route.path),
        "summary": route.summary,
        "description": route.command.__doc__,
        "security": _security(route.scope),
        "parameters": [*_path(route.parameters), _KEY, _PREFER, _TOKEN],
        "requestBody": {"required": True, "content": _json(ref)},
        "responses": {str(route.status): answer, "202": later, **_errors("409", "413", "415", "422")},
    }


def _bulk(route: CommandRoute, ref: Any) -> dict[str, Any]:
    content = _json({"type": "array", "items": ref, "minItems": 1, "maxItems": 10_000})
    content["application/x-ndjson"] = {"schema": ref}
    return {
        "operationId": _name("POST", route.bulk or route.path),
        "summary": f"{route.summary}: many, each by itself",
        "security": _security(route.scope),
        "parameters": [*_path(route.parameters), _KEY, _PREFER, _TOKEN],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "An answer for each item.",
                "content": _json({"$ref": "#/components/schemas/BulkResult"}),
            },
            **_errors("413", "415", "422"),
        },
    }


def _query(route: QueryRoute) -> dict[str, Any]:
    names = [*route.query, *(("limit", "cursor") if route.page else ())]
    query = [
        {"name": n, "in": "query", "schema": {"type": "integer" if n == "limit" else "string"}}
        for n in dict.fromkeys(names)
    ]
    schema = "Page" if route.page else "Object"
    return {
        "operationId": _name("get", route.path),
        "summary": route.summary,
        "security": _security(route.scope),
        "parameters": [*_path(route.parameters), *query, _TOKEN],
        "responses": {
            "200": {
                "description": f"{route.schema}.",
                "content": _json({"$ref": f"#/components/schemas/{schema}"}),
            },
            **_errors(),
        },
    }


def _operation() -> dict[str, Any]:
    return {
        "operationId": "get-operation",
        "summary": "Read what became of a command",
        "security": [{"oauth2": []}, {"apiKey": []}],
        "parameters": [_OPERATION_ID],
        "responses": {
            "200": {
                "description": "The operation.",
                "content": _json({"$ref": "#/components/schemas/Operation"}),
            },
            **_errors(),
        },
    }
