"""S20: the API fuzzed against its own OpenAPI document: no 5xx, and every answer is one that the document describes.

Schemathesis makes requests that fit the document and ones that break it on purpose; in a third of them the path
names things that exist. Answers are checked for their status, media type and schema.
"""

from __future__ import annotations

import itertools
import time
import warnings
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.app import openapi_document
from tests.integration.gateway.operations import operations
from tests.integration.gateway.world import Estate, estate_of, run_apart
from tests.kit.api import callers
from tests.kit.platform import Platform
from tests.kit.soak import Figure, Printed, figures

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
_keys = itertools.count()


@pytest.fixture(scope="module")
def estate(platform: Platform) -> Estate:
    """A tenant of its own: what is fuzzed may be closed, revoked and emptied."""

    async def make() -> Estate:
        async with callers(platform, "fuzzed") as (owner,):
            return await estate_of(owner, scope_sets={})

    return run_apart(make())


class Sender:
    """Sends cases as one tenant and judges the answers."""

    def __init__(self, platform: Platform, estate: Estate) -> None:
        self._url = platform.url
        self._session = requests.Session()
        self._token = {"Authorization": f"Bearer {estate.token}"}
        self.statuses: dict[int, int] = {}

    def send(self, case: Any, *, streams: bool) -> None:
        """One request; a part of the platform that is away is asked again, as its answer says."""
        headers = dict(self._token)
        if "Idempotency-Key" in (case.headers or {}) and next(_keys) % 4:
            headers["Idempotency-Key"] = f"fuzz-{time.time_ns()}"  # a command that was not sent before
        if streams:  # it has no end to be read to: its head is judged
            self._count(self._head(case, headers))
            return
        for _ in range(20):
            answer = case.call(base_url=self._url, headers=headers, session=self._session, timeout=60)
            if answer.status_code != 503 or "retry-after" not in {name.lower() for name in answer.headers}:
                break
            time.sleep(0.5)
        self._count(int(answer.status_code))
        case.validate_response(answer, checks=_CHECKS, headers=headers)

    def _head(self, case: Any, headers: dict[str, str]) -> int:
        asked = case.as_transport_kwargs(base_url=self._url, headers=headers)
        with self._session.request(**asked, stream=True, timeout=60) as answer:
            kind = answer.headers["content-type"].partition(";")[0]
            expected = "text/event-stream" if answer.status_code == 200 else "application/problem+json"
            assert (kind, str(answer.status_code) in case.operation.definition.raw["responses"]) == (
                expected,
                True,
            )
            return answer.status_code

    def _count(self, status: int) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1


def strategy(operation: Any, estate: Estate) -> st.SearchStrategy[Any]:
    """Requests that fit, that fit and name what exists, and that do not fit."""
    names = operation.path_parameters
    real = {p.name: estate.ids[p.name] for p in names}
    kinds = [
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE, path_parameters=real),
    ]
    if operation.body or operation.query or operation.path_parameters:
        kinds.append(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    return st.one_of(kinds)


def _fuzz(sender: Sender, cases: st.SearchStrategy[Any], count: int, *, streams: bool, soaking: bool) -> None:
    """Send ``count`` cases; the suite always sends the same ones."""

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=not soaking,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def fuzz(case: Any) -> None:
        sender.send(case, streams=streams)

    fuzz()


@figures("S20")
def test_every_answer_is_one_that_the_document_describes(
    platform: Platform, estate: Estate, figure: Figure, printed: Printed
) -> None:
    sender = Sender(platform, estate)
    soaking = figure["requests"] > 5_000
    document = schemathesis.openapi.from_dict(openapi_document())
    each = -(-figure["requests"] // len(operations()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for found in document.get_all_operations():
            operation = found.ok()
            streams = operation.path.endswith("/events")

            _fuzz(sender, strategy(operation, estate), each, streams=streams, soaking=soaking)
    sent = sum(sender.statuses.values())
    assert sent >= figure["requests"]
    assert not any(status >= 500 for status in sender.statuses), sender.statuses
    assert (
        sender.statuses.get(200, 0) + sender.statuses.get(201, 0) + sender.statuses.get(202, 0) > sent // 20
    )
    printed(
        "S20",
        requests=sent,
        server_errors=0,
        schema_breaks=0,
        **{f"answers_{s}": n for s, n in sorted(sender.statuses.items())},
    )
