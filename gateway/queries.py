"""Reads: handed to the service that owns the view, under the same path, in the caller's name."""

from __future__ import annotations

from typing import Final, Protocol

from gateway.edge import Answer, Request, query_of
from gateway.routes import QueryRoute
from gateway.upstream import Reply, away
from nexafi.problems import ProblemError
from schemas.common import tokens

MAX_QUERY_BYTES: Final = 4096
_PASSED_ON: Final = (b"consistency-token",)
_TOKEN: Final = tokens.HEADER.lower().encode()


class Upstream(Protocol):
    """Reads of a service; :class:`gateway.upstream.Services`."""

    async def get(
        self,
        service: str,
        target: str,
        *,
        tenant: str,
        actor: str,
        headers: dict[str, str] | None = ...,
    ) -> Reply:
        """``GET target``."""


class QueryEndpoint:
    """One route of :data:`gateway.routes.QUERIES`."""

    def __init__(self, route: QueryRoute, services: Upstream) -> None:
        self.route = route
        self.services = services
        self._known = {*route.query, *(("limit", "cursor") if route.page else ())}

    async def __call__(self, request: Request) -> Answer:
        """Ask the service; its answer and its problems pass through."""
        query: bytes = request.scope["query_string"]
        if query:
            self._check(request, query)
        headers: dict[str, str] = {}
        if token := request.header(_TOKEN):
            try:
                tokens.decode(token)
            except tokens.MalformedTokenError as error:
                raise ProblemError("invalid-consistency-token", str(error), pointer=tokens.HEADER) from None
            headers[tokens.HEADER] = token
        if request.traceparent:
            headers["traceparent"] = request.traceparent
        target = "/internal" + request.path + ("?" + query.decode("ascii") if query else "")
        who = request.principal
        reply = await self.services.get(
            self.route.service, target, tenant=who.tenant, actor=who.actor, headers=headers
        )
        if reply.status >= 500 and reply.status != 503:
            raise away(self.route.service)
        if reply.status == 404:
            raise ProblemError("not-found")  # one body for all that is absent, whoever says so
        return Answer(reply.status, reply.headers, reply.body)

    def _check(self, request: Request, query: bytes) -> None:
        if len(query) > MAX_QUERY_BYTES:
            raise ProblemError("uri-too-long")
        for name in query_of(request.scope):
            if name not in self._known:
                raise ProblemError(
                    "invalid-parameter", "There is no such parameter.", pointer=f"?{name[:64]}"
                )
