"""Every refusal is a problem with a stable type: each type of the edge is provoked, and each has its section in the docs."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp

from gateway.reasons import STATUS
from nexafi.problems import EDGE
from schemas.common.problems import PROBLEM_BASE
from tests.integration.gateway import hostile
from tests.integration.gateway.world import World
from tests.kit.api import Caller
from tests.kit.source import ROOT
from tests.unit.gateway.kit import raw

#: Not to be provoked from outside while all is well -> the test that shows it.
ELSEWHERE: Final = {
    "not-acceptable": "nothing is offered in more than one form; kept for the framework's own 406",
    "conflict": "tests/unit/gateway/test_http.py::test_errors_are_problems",
    "request-timeout": "tests/integration/gateway/test_limits.py::test_slow_senders_are_ended_and_hold_nobody_up",
    "too-many-requests": "tests/integration/gateway/test_limits.py::test_many_large_bodies_at_once_take_bounded_memory",
    "internal-error": "tests/unit/gateway/test_http.py::test_an_unexpected_error_names_a_correlation_id_and_nothing_else",
    "not-yet-consistent": "tests/integration/projections/test_consistency.py::test_a_view_that_stands_still_is_waited_for_and_said_to_be_behind",
    "overloaded": "tests/unit/gateway/test_http.py::test_too_many_connections_and_requests_are_turned_away",
    "service-unavailable": "a service must be down for it",
    "log-unavailable": "Kafka must be down for it",
    "draining": "tests/integration/gateway/test_stream_ends.py",
}


def _provocations(
    world: World,
) -> dict[str, Callable[[Caller], Awaitable[tuple[int, bytes, dict[str, str]]]]]:
    """Problem -> a request that meets it."""
    port, token = world.platform.port, world.ours.token
    ledgers = "/v1/ledgers"

    def wire(request: bytes) -> Callable[[Caller], Awaitable[Any]]:
        async def send(_caller: Caller) -> tuple[int, bytes, dict[str, str]]:
            answer = await raw(port, request, timeout_s=30)
            return answer.status, answer.body, answer.headers

        return send

    def get(path: str, headers: dict[str, str]) -> Callable[[Caller], Awaitable[Any]]:
        async def send(caller: Caller) -> tuple[int, bytes, dict[str, str]]:
            answer = await caller.call("GET", path, headers=headers, tries=1)
            return answer.status, answer.body, dict(answer.headers)

        return send

    def post(body: Any, **options: Any) -> Callable[[Caller], Awaitable[Any]]:
        async def send(caller: Caller) -> tuple[int, bytes, dict[str, str]]:
            answer = await caller.post(ledgers, body, tries=1, **options)
            return answer.status, answer.body, dict(answer.headers)

        return send

    async def forbidden(caller: Caller) -> tuple[int, bytes, dict[str, str]]:
        reader = world.ours.caller(caller.http, world.platform.url, "ledger:read")
        answer = await reader.post(ledgers, {"name": "x"})
        return answer.status, answer.body, dict(answer.headers)

    async def reused(caller: Caller) -> tuple[int, bytes, dict[str, str]]:
        await caller.post(ledgers, {"name": "one"}, key="reused")
        answer = await caller.post(ledgers, {"name": "two"}, key="reused")
        return answer.status, answer.body, dict(answer.headers)

    return {
        "malformed-request": wire(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"),
        "malformed-json": post(b"{"),
        "idempotency-key-required": wire(
            hostile.head("POST", ledgers, token, "Content-Type: application/json", "Content-Length: 0")
        ),
        "idempotency-key-invalid": post({"name": "x"}, headers={"Idempotency-Key": "a b"}),
        "invalid-parameter": get(f"{ledgers}?limit=0", {}),
        "invalid-consistency-token": get(ledgers, {"Consistency-Token": "?"}),
        "unauthenticated": get(ledgers, {"Authorization": "Basic YTpi"}),
        "invalid-token": get(ledgers, {"Authorization": "Bearer a.b.c"}),
        "invalid-api-key": get(ledgers, {"Authorization": "Bearer nfk_x"}),
        "forbidden": forbidden,
        "not-found": get("/v1/nothing", {}),
        "method-not-allowed": wire(hostile.head("PUT", ledgers, token, "Content-Length: 0")),
        "body-too-large": post({"name": "x" * 300_000}),
        "uri-too-long": wire(hostile.head("GET", "/" + "a" * 40_000, token)),
        "unsupported-media-type": post({"name": "x"}, headers={"Content-Type": "text/plain"}),
        "validation-failed": post({"name": 1}),
        "idempotency-key-reused": reused,
        "headers-too-large": wire(hostile.head("GET", ledgers, token, "X-A: " + "b" * 40_000)),
    }  # fmt: skip


async def test_every_type_of_the_edge_is_what_the_table_says(
    world: World, http: aiohttp.ClientSession
) -> None:
    provoked = _provocations(world)
    assert set(provoked) | set(ELSEWHERE) == set(EDGE), (
        "a new type: provoke it here, or say where it is shown"
    )
    caller = world.ours.caller(http, world.platform.url)
    for slug, send in provoked.items():
        status, body, headers = await send(caller)
        problem = json.loads(body)
        assert (status, problem["type"], problem["status"]) == (EDGE[slug][0], PROBLEM_BASE + slug, status)
        assert headers["content-type"] == "application/problem+json", slug
        assert problem["title"] == EDGE[slug][1]
        assert ("retry-after" in headers) == (status in (429, 503)), slug
        assert ("www-authenticate" in headers) == (status == 401 or slug == "forbidden"), slug
        assert "pointer" in problem or slug not in {
            "validation-failed",
            "malformed-json",
            "invalid-parameter",
        }


def test_every_type_has_its_section_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "problems.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^### ([a-z0-9-]+)$", page, re.MULTILINE))
    assert set(EDGE) - sections == set()
    domain = set(re.findall(r'"([a-z]+(?:-[a-z]+)+)":', "".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "services").glob("*/reasons.py"))
    )))  # fmt: skip
    assert len(domain) > 40
    assert domain - sections == set(), "a reason of a domain without a section"
    assert set(STATUS) - sections == set(), "the gateway gives a status to a reason that nobody has"
