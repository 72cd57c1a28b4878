"""A reply may be lost: what is stored answers, and tells another request under the same key from the first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import orjson
from starlette.requests import Request

from events.http import StoreQueries
from nexafi.database import async_engine
from nexafi.internal_auth import SCOPE_KEY, Caller
from tests.kit.counter import Open
from tests.kit.engine import Engine


async def test_another_request_under_the_same_key_is_a_conflict(engine: Engine) -> None:
    """Given a decided command; when its result is asked with its digest, another, or none; then only another conflicts."""
    engine.spawn()
    first = await engine.send(Open(name="one"), "key", request_hash="aa")
    assert first is not None
    database = async_engine(engine.settings, "test", pool_size=1)
    queries = StoreQueries(database, engine.service)
    request = cast("Request", SimpleNamespace(scope={SCOPE_KEY: Caller("", "system:test")}))

    async def stored(digest: str) -> dict[str, Any]:
        response = await queries.result(request, first.command_id, first.shard, digest)
        found: dict[str, Any] = orjson.loads(response.body)
        return found

    try:
        same, unasked, other = await stored("aa"), await stored(""), await stored("bb")
    finally:
        await database.dispose()
    assert same == unasked == first.model_dump()
    assert (other["conflict"], other["result"], other["outcome"]) == (True, {}, "rejected")
