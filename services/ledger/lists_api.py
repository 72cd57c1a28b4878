"""Lists of what a ledger's books are kept by: currencies, assets and rates, conversions, periods, adjustments."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request, Response

from projections.queries.reading import Order, Reader
from projections.queries.serving import respond, respond_page
from schemas.common.currencies import ISO_4217, WITHDRAWN
from schemas.common.money import REGISTERED_ASSETS

_VIEWS: Final = ("ledger", "accounting")
_L: Final = "/internal/v1/ledgers/{ledger_id}"


def routes(app: FastAPI, reader: Reader) -> None:
    """Add the routes."""
    q = ListQueries(reader)
    app.add_api_route("/internal/v1/currencies", q.currencies)
    app.add_api_route(f"{_L}/assets", q.assets)
    app.add_api_route(f"{_L}/rates", q.rates)
    app.add_api_route(f"{_L}/conversions", q.conversions)
    app.add_api_route(f"{_L}/revaluations", q.revaluations)
    app.add_api_route(f"{_L}/periods", q.periods)
    app.add_api_route(f"{_L}/adjustments", q.adjustments)
    app.add_api_route(f"{_L}/templates", q.templates)


class ListQueries:
    """Lists are pages, newest first."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def currencies(self, request: Request) -> Response:
        """ISO 4217, and the assets that every ledger knows."""
        _, seen = await self._reader.ready(request, ())
        items: list[dict[str, Any]] = [
            {**each._asdict(), "withdrawn": each.code in WITHDRAWN} for each in ISO_4217.values()
        ]
        items += [{"code": code, "exponent": places} for code, places in REGISTERED_ASSETS.items()]
        return respond({"items": items}, seen)

    async def assets(self, request: Request, ledger_id: str) -> Response:
        """What the ledger has registered."""
        return await self._page(request, "registered_assets", ledger_id, Order(("code",), ("text",)))

    async def rates(self, request: Request, ledger_id: str) -> Response:
        """Rates in the order in which they were recorded, filtered by ``base`` or ``quote``."""
        filters = {name: request.query_params.get(name) for name in ("base", "quote")}
        return await self._page(request, "fx_rates", ledger_id, Order(("rate_id",), ("uuid",)), **filters)

    async def conversions(self, request: Request, ledger_id: str) -> Response:
        """What was changed, at which rate, and what rounding did."""
        return await self._page(request, "conversions", ledger_id, Order(("conversion_id",), ("uuid",)))

    async def revaluations(self, request: Request, ledger_id: str) -> Response:
        """What positions were worth, and the gain or loss that was entered."""
        return await self._page(request, "revaluations", ledger_id, Order(("revaluation_id",), ("uuid",)))

    async def periods(self, request: Request, ledger_id: str) -> Response:
        """Every close and reopening; the first of the list has the marks that hold."""
        return await self._page(request, "periods", ledger_id, Order(("position",), ("bigint",)))

    async def adjustments(self, request: Request, ledger_id: str) -> Response:
        """What was entered into closed periods, and why."""
        return await self._page(request, "adjustments", ledger_id, Order(("adjustment_id",), ("uuid",)))

    async def templates(self, request: Request, ledger_id: str) -> Response:
        """Every version of every template, or of those with a ``name``."""
        name = request.query_params.get("name")
        return await self._page(
            request, "templates", ledger_id, Order(("template_id",), ("uuid",)), name=name
        )

    async def _page(
        self, request: Request, table: str, ledger_id: str, order: Order, **filters: Any
    ) -> Response:
        tenant, seen = await self._reader.ready(request, _VIEWS)
        await self._reader.one("ledgers", {"ledger_id": ledger_id, "tenant": tenant})
        where = {"ledger_id": ledger_id, "tenant": tenant, **filters}
        return await respond_page(self._reader, request, table, order, where, seen)
