"""Reading views for one tenant: pages by key, bounded waits for consistency tokens, plain JSON values."""

# ruff: noqa: S608 - tables, columns and orders are named by the callers' code, never by input
from __future__ import annotations

import asyncio
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
from fastapi import Request
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from events.store.reached import refuse_unreached
from nexafi.internal_auth import SCOPE_KEY
from nexafi.problems import ProblemError
from schemas.common import tokens
from schemas.common.envelope import micros, rfc3339

WAIT_S: Final = 5.0
POLL_S: Final = 0.015
MAX_PAGE: Final = 200
_TIMES: Final = frozenset(
    {
        "created_at",
        "updated_at",
        "recorded_at",
        "effective_at",
        "expires_at",
        "decided_at",
        "observed_at",
        "soft_until",
        "hard_until",
    }
)


@dataclass(frozen=True)
class Order:
    """The order of a list: columns of a unique key, newest first. ``casts`` are PostgreSQL types."""

    columns: tuple[str, ...]
    casts: tuple[str, ...]


class Reader:
    """Reads views of one database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def ready(
        self, request: Request, views: Sequence[str], also: Mapping[str, int] | None = None
    ) -> tuple[str, dict[str, int]]:
        """The caller's tenant and the positions that will be read, once they include the caller's token and ``also``.

        A position that no history has is refused at once; nobody waits for it.
        """
        caller = request.scope[SCOPE_KEY]
        if not caller.tenant:
            raise ProblemError("not-found")
        raw = request.headers.get(tokens.HEADER, "")
        try:
            wanted = tokens.decode(raw)
        except tokens.MalformedTokenError as error:
            raise ProblemError("invalid-consistency-token", str(error), pointer=tokens.HEADER) from None
        tokens.merge_into(wanted, also or {})
        deadline, reachable = time.monotonic() + WAIT_S, False
        while True:
            seen = await self._marks(views)
            behind = {s: p for s, p in wanted.items() if s in seen and seen[s] < p}
            if not behind:
                return caller.tenant, seen
            if not reachable:
                await refuse_unreached(self.engine, behind)
                reachable = True
            if time.monotonic() > deadline:
                raise ProblemError(
                    "not-yet-consistent",
                    f"The views did not reach the token within {WAIT_S:.0f} s.",
                    headers={"Retry-After": "1"},
                )
            await asyncio.sleep(POLL_S)

    async def _marks(self, views: Sequence[str]) -> dict[str, int]:
        """``service/shard`` -> the lowest position of the named views (sources that feed none are absent)."""
        query = text(
            "SELECT service, shard, min(position) FROM views.marks m LEFT JOIN views.versions v USING (view, version) "
            "WHERE view = ANY(:views) AND coalesce(v.state, 'live') = 'live' GROUP BY 1, 2"
        )
        async with self.engine.connect() as connection:
            rows = (await connection.execute(query, {"views": list(views)})).all()
        return {f"{service}/{shard}": position for service, shard, position in rows}

    async def one(self, table: str, where: Mapping[str, Any]) -> dict[str, Any]:
        """The row, or the 404 problem."""
        clauses = " AND ".join(f"{name} = :{name}" for name in where)
        rows = await self.rows(f"SELECT * FROM views.{table} WHERE {clauses} LIMIT 1", where)
        if not rows:
            raise ProblemError("not-found")
        return rows[0]

    async def page(
        self, table: str, order: Order, where: Mapping[str, Any], *, limit: int, cursor: str, extra: str = ""
    ) -> dict[str, Any]:
        """A page, newest first; ``next_cursor`` is ``None`` on the last. Filters that are ``None`` are left out."""
        values = {name: value for name, value in where.items() if value is not None}
        clauses = [f"{name} = :{name}" for name in values if f":{name}" not in extra]
        if extra:
            clauses.append(extra)
        key = ", ".join(order.columns)
        if cursor:
            after = _read_cursor(cursor, order.casts)
            names = [f"after_{n}" for n in range(len(after))]
            marks = ", ".join(f"CAST(:{n} AS {kind})" for n, kind in zip(names, order.casts, strict=True))
            clauses.append(f"({key}) < ({marks})")
            values |= dict(zip(names, after, strict=True))
        descending = ", ".join(f"{c} DESC" for c in order.columns)
        found = await self.rows(
            f"SELECT * FROM views.{table} WHERE {' AND '.join(clauses)} ORDER BY {descending} LIMIT :n",
            {**values, "n": limit + 1},
            raw=True,
        )
        items, more = found[:limit], len(found) > limit
        following = _write_cursor([items[-1][c] for c in order.columns]) if more else None
        return {"items": [plain(row) for row in items], "next_cursor": following}

    async def rows(self, query: str, values: Mapping[str, Any], *, raw: bool = False) -> list[dict[str, Any]]:
        """Rows as dictionaries of JSON values."""
        try:
            async with self.engine.connect() as connection:
                found = (await connection.execute(text(query), dict(values))).mappings().all()
        except DBAPIError as error:
            cause = getattr(error.orig, "__cause__", None)
            if isinstance(cause, asyncpg.DataError):
                # A filter or id that PostgreSQL can not read as what the column is.
                raise ProblemError(
                    "invalid-parameter", "A parameter has not the form it must have."
                ) from None
            if isinstance(cause, (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)):
                raise ProblemError(
                    "service-unavailable",
                    "The view is being made anew for this release.",
                    headers={"Retry-After": "5"},
                ) from error
            raise
        return [dict(row) if raw else plain(dict(row)) for row in found]


def plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """JSON values: ids as text, amounts as integers, times as RFC 3339."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, UUID):
            out[name] = str(value)
        elif isinstance(value, Decimal):
            out[name] = int(value)
        elif name in _TIMES and value is not None:
            out[name] = rfc3339(value)
        else:
            out[name] = value
    return out


def answer(body: Any, seen: Mapping[str, int]) -> tuple[bytes, dict[str, str]]:
    """Body and headers: the token says what was read. The standard encoder writes integers of any size."""
    from pydantic_core import to_json

    return to_json(body), {tokens.HEADER: tokens.encode(dict(seen))}


def time_parameter(value: str | None, name: str) -> int | None:
    """Microseconds of an RFC 3339 parameter."""
    if value is None:
        return None
    try:
        return micros(value)
    except (ValueError, OverflowError):
        raise ProblemError(
            "invalid-parameter", "Not an RFC 3339 time with a zone.", pointer=f"?{name}"
        ) from None


def limit_parameter(value: str | None) -> int:
    """``limit``: 1 to 200, 50 when absent."""
    if value is None:
        return 50
    if not value.isascii() or not value.isdigit() or len(value) > 6 or not 1 <= int(value) <= MAX_PAGE:
        raise ProblemError("invalid-parameter", f"A number from 1 to {MAX_PAGE}.", pointer="?limit")
    return int(value)


def _write_cursor(values: Sequence[Any]) -> str:
    raw = orjson.dumps([str(v) if isinstance(v, UUID) else v for v in values])
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


_INTEGERS: Final = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}


def _read_cursor(cursor: str, casts: Sequence[str]) -> list[Any]:
    values: Any = None
    if len(cursor) <= 512:
        with suppress(ValueError):
            values = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    if isinstance(values, list) and len(values) == len(casts):
        with suppress(ValueError, TypeError):
            return [_key_value(v, kind) for v, kind in zip(values, casts, strict=True)]
    raise ProblemError("invalid-parameter", "Not a cursor of this list.", pointer="?cursor")


def _key_value(value: Any, kind: str) -> str | int:
    """A value of a cursor as its column's type has it; ``ValueError`` when it is none."""
    if isinstance(value, str) and kind in ("uuid", "text"):
        return str(UUID(value)) if kind == "uuid" else value
    bound = _INTEGERS.get(kind, 0)
    if type(value) is int and -bound <= value < bound:
        return value
    raise ValueError(kind)
