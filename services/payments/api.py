"""What can be asked of the payment service: payments with their timelines, operations, and the search."""

from __future__ import annotations

from typing import Any, Final

from elasticsearch import ApiError, AsyncElasticsearch, BadRequestError, TransportError
from fastapi import FastAPI, Request, Response

from nexafi.problems import ProblemError
from nexafi.role import RoleContext
from nexafi.settings import Settings
from projections.queries.reading import Order, Reader
from projections.queries.serving import respond, respond_page, serve_queries
from projections.search.documents import INDICES
from projections.search.indices import client_of
from projections.search.queries import search_request, search_result
from schemas.common.envelope import rfc3339

_VIEWS: Final = ("payments",)
_SEARCHED: Final = tuple(index.view for index in INDICES)


async def run_api(ctx: RoleContext) -> None:
    """The role ``payments-api``."""
    await serve_queries(ctx, "payments", routes)


def routes(app: FastAPI, reader: Reader, ctx: RoleContext) -> None:
    """Add the routes."""
    client = client_of(ctx.settings, request_timeout_s=5)
    q = PaymentQueries(reader, client, ctx.settings)
    app.add_api_route("/internal/v1/payments", q.payments)
    app.add_api_route("/internal/v1/payments/{payment_id}", q.payment)
    app.add_api_route("/internal/v1/operations", q.operations)
    app.add_api_route("/internal/v1/search", q.search)
    app.router.add_event_handler("shutdown", client.close)


class PaymentQueries:
    """Queries of payments and search."""

    def __init__(self, reader: Reader, client: AsyncElasticsearch, settings: Settings) -> None:
        self._settings = settings
        self._reader = reader
        self._client = client

    async def payments(self, request: Request) -> Response:
        """Payments, newest first."""
        tenant, seen = await self._reader.ready(request, _VIEWS)
        query = request.query_params
        where: dict[str, Any] = {
            "tenant": tenant,
            **{name: query.get(name) for name in ("status", "external_reference", "ledger_id")},
        }
        return await respond_page(
            self._reader, request, "payments", Order(("payment_id",), ("uuid",)), where, seen
        )

    async def payment(self, request: Request, payment_id: str) -> Response:
        """One payment with its timeline."""
        tenant, seen = await self._reader.ready(request, _VIEWS)
        payment = await self._reader.one("payments", {"payment_id": payment_id, "tenant": tenant})
        happened = await self._reader.rows(
            "SELECT event, at, actor, detail FROM views.payment_events WHERE payment_id = CAST(:id AS uuid)"
            " ORDER BY position",
            {"id": payment_id},
        )
        payment["timeline"] = [
            {"event": e["event"], "at": rfc3339(e["at"]), "actor": e["actor"], **e["detail"]}
            for e in happened
        ]
        payment["refunds"] = await self._reader.rows(
            "SELECT refund_id, amount, currency, status, transaction_id, reason, created_at, updated_at"
            " FROM views.refunds WHERE payment_id = CAST(:id AS uuid) ORDER BY refund_id",
            {"id": payment_id},
        )
        return respond(payment, seen)

    async def operations(self, request: Request) -> Response:
        """What each command has caused, newest first: a row for every (service, shard) that it reached."""
        tenant, seen = await self._reader.ready(request, ("operations",))
        query = request.query_params
        order = Order(
            ("created_at", "operation_id", "service", "shard"), ("bigint", "text", "text", "smallint")
        )
        where = {"tenant": tenant, "operation_id": query.get("command_id"), "service": query.get("service")}
        return await respond_page(self._reader, request, "operations", order, where, seen)

    async def search(self, request: Request) -> Response:
        """Search payments and entries; consistent with the caller's token like any query."""
        tenant, seen = await self._reader.ready(request, _SEARCHED)
        wanted = search_request(self._settings, tenant, request.query_params)
        try:
            found = await self._client.search(**wanted)
        except BadRequestError as error:
            pointer = "?cursor" if "cursor" in request.query_params else "?q"
            raise ProblemError(
                "invalid-parameter", "This can not be searched for in this way.", pointer=pointer
            ) from error
        except (ApiError, TransportError) as error:
            raise ProblemError(
                "service-unavailable", "The search does not answer now.", headers={"Retry-After": "1"}
            ) from error
        return respond(search_result(found.body, request.query_params), seen)
