"""What can be asked of the compliance service: screenings, the list entries that they hit, cases."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request, Response

from nexafi.role import RoleContext
from projections.queries.reading import Order, Reader
from projections.queries.serving import respond, respond_page, serve_queries

_VIEWS: Final = ("compliance",)


async def run_api(ctx: RoleContext) -> None:
    """The role ``compliance-api``."""
    await serve_queries(ctx, "compliance", routes)


def routes(app: FastAPI, reader: Reader, _ctx: RoleContext) -> None:
    """Add the routes."""
    q = CaseQueries(reader)
    app.add_api_route("/internal/v1/compliance/cases", q.cases)
    app.add_api_route("/internal/v1/compliance/cases/{case_id}", q.case)
    app.add_api_route("/internal/v1/compliance/screenings", q.screenings)
    app.add_api_route("/internal/v1/compliance/screenings/{screening_id}", q.screening)
    app.add_api_route("/internal/v1/compliance/hits", q.hits)


class CaseQueries:
    """Queries of cases, screenings and hits."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def _page(self, request: Request, table: str, order: Order, *filters: str) -> Response:
        tenant, seen = await self._reader.ready(request, _VIEWS)
        query = request.query_params
        where = {"tenant": tenant, **{name: query.get(name) for name in filters}}
        return await respond_page(self._reader, request, table, order, where, seen)

    async def cases(self, request: Request) -> Response:
        """Cases, newest first, filtered by status or payment."""
        return await self._page(request, "cases", Order(("case_id",), ("uuid",)), "status", "payment_id")

    async def screenings(self, request: Request) -> Response:
        """Screenings, newest first, filtered by outcome or payment."""
        order = Order(("screening_id",), ("uuid",))
        return await self._page(request, "screenings", order, "outcome", "payment_id")

    async def hits(self, request: Request) -> Response:
        """Hits, newest first, filtered by list entry or payment."""
        order = Order(("screening_id", "ordinal"), ("uuid", "smallint"))
        return await self._page(request, "screening_hits", order, "entry_id", "payment_id")

    async def screening(self, request: Request, screening_id: str) -> Response:
        """One screening with its hits."""
        tenant, seen = await self._reader.ready(request, _VIEWS)
        row = await self._reader.one("screenings", {"screening_id": screening_id, "tenant": tenant})
        row["hits"] = await self._reader.rows(
            "SELECT ordinal, role, list_id, entry_id, entry_name, matched_name, program, score_bp, features"
            " FROM views.screening_hits WHERE screening_id = CAST(:id AS uuid) ORDER BY ordinal",
            {"id": screening_id},
        )
        return respond(row, seen)

    async def case(self, request: Request, case_id: str) -> Response:
        """One case with its hits."""
        tenant, seen = await self._reader.ready(request, _VIEWS)
        return respond(await self._reader.one("cases", {"case_id": case_id, "tenant": tenant}), seen)
