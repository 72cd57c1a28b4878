"""A service's query API: its store's routes and its views, behind signed requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response

from events.http import mount
from nexafi.database import async_engine
from nexafi.http import serve
from nexafi.role import RoleContext
from projections.queries.reading import Order, Reader, answer, limit_parameter

Routes = Callable[[FastAPI, Reader, RoleContext], None]


async def serve_queries(ctx: RoleContext, service: str, routes: Routes) -> None:
    """Serve ``service``'s queries on its port until stopped."""
    app = FastAPI(title=f"NexaFi {service}", docs_url=None, redoc_url=None, openapi_url=None)
    store = mount(app, ctx, service)
    engine = async_engine(ctx.settings, f"{service}-api", pool_size=4, statement_timeout_ms=10_000)
    routes(app, Reader(engine), ctx)
    try:
        await serve(app, ctx.settings.port(service), ctx, name=f"{service}-api")
    finally:
        await engine.dispose()
        await store.dispose()


async def respond_page(
    reader: Reader,
    request: Request,
    table: str,
    order: Order,
    where: Mapping[str, Any],
    seen: dict[str, int],
    *,
    extra: str = "",
) -> Response:
    """The page of ``table`` that the request's ``limit`` and ``cursor`` ask for, as :meth:`Reader.page` makes it."""
    query = request.query_params
    limit = limit_parameter(query.get("limit"))
    body = await reader.page(table, order, where, limit=limit, cursor=query.get("cursor", ""), extra=extra)
    return respond(body, seen)


def respond(body: object, seen: dict[str, int]) -> Response:
    """A JSON answer with its consistency token."""
    data, headers = answer(body, seen)
    return Response(data, media_type="application/json", headers=headers)
