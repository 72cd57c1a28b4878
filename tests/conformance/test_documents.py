"""Rule: the committed contracts are what the code says, follow their standards, and break nothing that was released."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest
from jsonschema import Draft7Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from cli.contracts import asyncapi, documents
from cli.contracts.catalog import all_commands, all_events, catalog
from cli.contracts.golden import sample
from cli.contracts.jsonschema import REPLIES
from cli.contracts.reference import reasons
from nexafi.problems import EDGE
from nexafi.settings import Settings
from schemas.common.envelope import CommandEnvelope, EventEnvelope
from tests.kit.source import ROOT

ASYNCAPI_SCHEMA = json.loads((ROOT / "tests/data/vendored/asyncapi-3.0.0.json").read_text())


@pytest.fixture(scope="module")
def generated() -> dict[str, bytes]:
    return documents.generate()


@pytest.fixture(scope="module")
def topics(generated: dict[str, bytes]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(generated["schemas/json/asyncapi.json"])
    return document


@pytest.fixture(scope="module")
def http(generated: dict[str, bytes]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(generated["schemas/json/openapi.json"])
    return document


# --- drift


def test_what_is_committed_is_what_the_code_gives(generated: dict[str, bytes]) -> None:
    assert list(documents.differences(generated)) == [], "run ./dev schemas and commit what it writes"


def test_drift_is_found(generated: dict[str, bytes]) -> None:
    path = "schemas/json/asyncapi.json"
    changed = generated | {path: b"{}", "schemas/json/events/never.v1.json": b"{}"}
    del changed["schemas/json/replies/nexafi.reply.v1.json"]
    assert {(each.path, each.why) for each in documents.differences(changed)} == {
        (path, "differs"),
        ("schemas/json/events/never.v1.json", "missing"),
        ("schemas/json/replies/nexafi.reply.v1.json", "stale"),
    }


# --- compatibility with what was released


def test_nothing_that_was_released_is_broken() -> None:
    assert documents.broken_since(documents.baseline()) == []


def test_a_breaking_change_of_a_released_type_is_found() -> None:
    released = json.loads(documents.release())["schemas"]
    assert documents.broken_since(released) == []
    event = released["events"]["ledger.transaction-posted.v1"]
    event["properties"]["booked_by"] = {"type": "string"}
    event["required"].append("booked_by")
    released["commands"]["ledger.no-longer-there.v1"] = {"type": "object"}
    found = documents.broken_since(released)
    assert [each.split(":")[0] for each in found] == [
        "ledger.no-longer-there.v1",
        "ledger.transaction-posted.v1",
        "ledger.transaction-posted.v1",
    ]
    assert "/booked_by: was removed" in found[1]


# --- AsyncAPI


def asyncapi_errors(document: dict[str, Any]) -> list[str]:
    return [error.json_path for error in Draft7Validator(ASYNCAPI_SCHEMA).iter_errors(document)]


def test_the_topics_follow_asyncapi_3(topics: dict[str, Any]) -> None:
    assert asyncapi_errors(topics) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("channels", "ledger-events", "adress"), "x"),
        (("operations", "send-ledger-events", "action"), "publish"),
        (("components", "messages", "event.ledger.account-closed.v1", "payloads"), {}),
        (("asyncapi",), "2.6.0"),
    ],
)
def test_a_planted_mistake_is_found(topics: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    broken = copy.deepcopy(topics)
    place = broken
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert asyncapi_errors(broken) != []


def test_every_reference_leads_somewhere(topics: dict[str, Any], http: dict[str, Any]) -> None:
    for document in (topics, http):
        references = list(_references(document))
        assert len(references) > 50
        for reference in references:
            place: Any = document
            for part in reference.removeprefix("#/").split("/"):
                place = place[part.replace("~1", "/").replace("~0", "~")]
            assert place


def _references(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def test_every_topic_and_every_type_is_in_the_document(topics: dict[str, Any]) -> None:
    settings = Settings.model_construct()
    addresses = {channel["address"]: channel for channel in topics["channels"].values()}
    expected = {f"{service}.{kind}" for service in catalog() for kind in ("commands", "events")}
    assert addresses.keys() == expected | {"nexafi.replies"}
    for service, each in catalog().items():
        assert addresses[f"{service}.events"]["messages"].keys() == each.events.keys()
        assert addresses[f"{service}.commands"]["messages"].keys() == {*each.commands, "nexafi.bulk.v1"}
        for kind in ("commands", "events"):
            partitions = addresses[f"{service}.{kind}"]["bindings"]["kafka"]["partitions"]
            assert partitions == settings.shard_count(service)


def test_every_message_has_its_golden_sample(topics: dict[str, Any]) -> None:
    for message in topics["components"]["messages"].values():
        if message["name"] in {*all_commands(), *all_events()}:
            assert message["examples"] == [{"name": "golden", "payload": sample(message["name"])}]


def test_headers_in_the_document_are_those_on_the_wire(topics: dict[str, Any]) -> None:
    one = "00000000-0000-5000-8000-000000000000"
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    command = CommandEnvelope(
        one, "x.y.v1", "acme", "alice", "00", "gw:1", saga_id=one, traceparent=trace, time_us=1
    )
    event = EventEnvelope(
        "0" * 32, "x.y.v1", "nexafi/x", one, 1, "acme", "alice", one, 1, 1, 1, one, one, trace, one
    )
    for envelope, name in ((command, "CommandHeaders"), (event, "EventHeaders")):
        schema = topics["components"]["schemas"][name]
        headers = {key: value.decode() for key, value in envelope.headers()}
        assert headers.keys() == schema["properties"].keys(), name
        assert list(Draft7Validator(schema).iter_errors(headers)) == []
        bare = dataclasses.replace(envelope, saga_id="", traceparent="")
        assert {key for key, _ in bare.headers()} == set(schema["required"]), name


# --- OpenAPI


def test_the_gateway_follows_openapi_31(http: dict[str, Any]) -> None:
    assert http["openapi"].startswith("3.1")
    assert [str(error.message)[:200] for error in OpenAPIV31SpecValidator(http).iter_errors()] == []


def test_a_planted_mistake_in_openapi_is_found(http: dict[str, Any]) -> None:
    broken = copy.deepcopy(http)
    path = next(iter(broken["paths"]))
    operation = next(iter(broken["paths"][path]))
    broken["paths"][path][operation]["summary"] = 5  # a text in OpenAPI 3.1; responses may be left out there
    assert list(OpenAPIV31SpecValidator(broken).iter_errors()) != []


def test_every_command_over_http_wants_an_idempotency_key(http: dict[str, Any]) -> None:
    for path, operations in http["paths"].items():
        for method, operation in operations.items():
            if method in {"post", "put", "patch", "delete"} and not path.startswith(("/oauth", "/v1/oauth")):
                parameters = [
                    _resolved(http, each)["name"].lower() for each in operation.get("parameters", [])
                ]
                assert "idempotency-key" in parameters, f"{method} {path}"


def _resolved(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    place: Any = document
    for part in value["$ref"].removeprefix("#/").split("/"):
        place = place[part]
    return dict(place)


# --- pages


def test_every_problem_has_a_section() -> None:
    page = (ROOT / "docs/reference/problems.md").read_text(encoding="utf-8")
    for slug in {*EDGE, *reasons()}:
        assert f"\n### {slug}\n" in page, slug
    assert len(reasons()) > 30


def test_replies_are_contracts_too() -> None:
    assert REPLIES.keys() == {p.stem for p in (ROOT / "schemas/json/replies").glob("*.json")}


def test_generated_documents_say_which_release_they_are_of(topics: dict[str, Any]) -> None:
    assert topics["info"]["version"] == documents.version()
    assert topics["asyncapi"] == asyncapi.VERSION
