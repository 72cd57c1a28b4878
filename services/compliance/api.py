"""What can be asked of the compliance service: cases and their hits."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request, Response

from nexafi.role import RoleContext
from projections.queries.reading import Order, Reader, limit_parameter
from projections.queries.serving import respond, serve_queries

_VIEWS: Final = ("compliance",)


async def run_api(ctx: RoleContext) -> None:
    """The role ``compliance-api``."""
    await serve_queries(ctx, "compliance", routes)


def routes(app: FastAPI, reader: Reader, _ctx: RoleContext) -> None:
    """Add the routes."""
    q = CaseQueries(reader)
    app.add_api_route("/internal/v1/compliance/cases", q.cases)
    app.add_api_route("/internal/v1/compliance/cases/{case_id}", q.case)


class CaseQueries:
    """Queries of cases."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def cases(self, request: Request) -> Response:
        """Cases, newest first, filtered by status or payment."""
        tenant, seen = await self._reader.ready(request, _VIEWS)
        query = request.query_params
        body = await self._reader.page(
            "cases",
            Order(("case_id",), ("uuid",)),
            {"tenant": tenant, "status": query.get("status"), "payment_id": query.get("payment_id")},
            limit=limit_parameter(query.get("limit")),
            cursor=query.get("cursor", ""),
        )
        return respond(body, seen)

    async def case(self, request: Request, case_id: str) -> Response:
        """One case with its hits."""
        tenant, seen = await self._reader.ready(request, _VIEWS)
        return respond(await self._reader.one("cases", {"case_id": case_id, "tenant": tenant}), seen)
