"""What can be asked of the auth service. Only the gateway asks; see :mod:`nexafi.internal_auth`.

The system itself (tenant ``""``) looks credentials up with their hashes; a tenant sees its own, without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import FastAPI, Header, Query, Request, Response

from nexafi.ids import is_id
from nexafi.internal_auth import SCOPE_KEY, Caller
from nexafi.problems import ProblemError
from schemas.common import tokens
from schemas.common.envelope import rfc3339
from services.auth.view import MAX_STALENESS_S, CredentialView, Follower, Machine

#: How long a query waits for the positions of its consistency token.
WAIT_S: Final = 5.0
MAX_PAGE: Final = 200


def build_api(view: CredentialView, follower: Follower) -> FastAPI:
    """The query API over a view that ``follower`` keeps fresh."""
    app = FastAPI(title="NexaFi auth", docs_url=None, redoc_url=None, openapi_url=None)
    lookups = Lookups(view, follower)
    app.add_api_route("/internal/clients/{client_id}", lookups.client)
    app.add_api_route("/internal/api-keys/by-hash/{key_hash}", lookups.key_by_hash)
    app.add_api_route("/internal/api-keys/by-id/{key_id}", lookups.key_by_id)
    for kind, path in (("client", "clients"), ("key", "api-keys")):
        queries = TenantQueries(kind, view, follower)
        app.add_api_route(f"/internal/v1/{path}", queries.page, name=f"{path}-page")
        app.add_api_route(f"/internal/v1/{path}/{{identifier}}", queries.one, name=f"{path}-one")
    return app


def _ensure_fresh(follower: Follower) -> None:
    if follower.age_s > MAX_STALENESS_S:
        raise _not_up_to_date()


def _not_up_to_date() -> ProblemError:
    return ProblemError(
        "service-unavailable", "The credentials are not up to date.", headers={"Retry-After": "1"}
    )


class Lookups:
    """For the system itself: a credential with its hash, whoever's it is."""

    def __init__(self, view: CredentialView, follower: Follower) -> None:
        self._view = view
        self._follower = follower

    async def client(self, request: Request, client_id: str) -> dict[str, Any]:
        """A client by id."""
        return await self._answer(request, lambda: self._view.machines.get(client_id), "client")

    async def key_by_hash(self, request: Request, key_hash: str) -> dict[str, Any]:
        """An API key by the keyed hash of its secret."""
        return await self._answer(request, lambda: self._view.by_hash.get(key_hash), "key")

    async def key_by_id(self, request: Request, key_id: str) -> dict[str, Any]:
        """An API key by id."""
        return await self._answer(request, lambda: self._view.machines.get(key_id), "key")

    async def _answer(
        self, request: Request, find: Callable[[], Machine | None], kind: str
    ) -> dict[str, Any]:
        if request.scope[SCOPE_KEY].tenant:
            raise ProblemError("not-found")
        _ensure_fresh(self._follower)
        machine = find()
        if machine is None:
            # It may be a moment old: whoever was just told his secret must not be told that it is wrong.
            if not await self._follower.refresh():
                raise _not_up_to_date()
            machine = find()
        if machine is None or machine.kind != kind:
            raise ProblemError("not-found")
        return _secret_view(machine)


class TenantQueries:
    """For a tenant: its own credentials of one kind, without anything secret."""

    def __init__(self, kind: str, view: CredentialView, follower: Follower) -> None:
        self._kind = kind
        self._view = view
        self._follower = follower

    async def page(
        self,
        request: Request,
        response: Response,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
        cursor: Annotated[str, Query(max_length=64)] = "",
        consistency_token: Annotated[str | None, Header()] = None,
    ) -> dict[str, Any]:
        """A page in the order of the ids, which is the order of their creation."""
        if cursor and not is_id(cursor):
            raise ProblemError("invalid-parameter", "Not a cursor of this list.", pointer="?cursor")
        caller = await self._caught_up(request, response, consistency_token)
        found = self._view.page(caller.tenant, self._kind, cursor, limit + 1)
        items = found[:limit]
        more = len(found) > limit
        return {"items": [_public_view(m) for m in items], "next_cursor": items[-1].id if more else None}

    async def one(
        self,
        request: Request,
        response: Response,
        identifier: str,
        consistency_token: Annotated[str | None, Header()] = None,
    ) -> dict[str, Any]:
        """One credential."""
        caller = await self._caught_up(request, response, consistency_token)
        machine = self._view.of_tenant(caller.tenant, self._kind, identifier)
        if machine is None:
            raise ProblemError("not-found")
        return _public_view(machine)

    async def _caught_up(self, request: Request, response: Response, token: str | None) -> Caller:
        _ensure_fresh(self._follower)
        caller: Caller = request.scope[SCOPE_KEY]
        if not caller.tenant:
            raise ProblemError("not-found")
        try:
            positions = tokens.decode(token or "")
        except tokens.MalformedTokenError as error:
            raise ProblemError("invalid-consistency-token", str(error), pointer=tokens.HEADER) from None
        wanted = {int(s.partition("/")[2]): p for s, p in positions.items() if s.startswith("auth/")}
        if not await self._view.reached(wanted, 0):
            await self._follower.refuse_unreached(wanted)
            if not await self._view.reached(wanted, WAIT_S):
                raise ProblemError("not-yet-consistent", headers={"Retry-After": "1"})
        known = {f"auth/{shard}": position for shard, position in self._view.positions.items()}
        response.headers[tokens.HEADER] = tokens.encode(known)
        return caller


def _secret_view(machine: Machine) -> dict[str, Any]:
    return {
        "id": machine.id,
        "kind": machine.kind,
        "tenant": machine.tenant,
        "hash": machine.hash,
        "scopes": machine.scopes,
        "expires_at": machine.expires_at,
        "live": machine.ended_at is None,
    }


def _public_view(machine: Machine) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": machine.id,
        "name": machine.name,
        "scopes": machine.scopes,
        "created_at": rfc3339(machine.created_at),
        "status": "live" if machine.ended_at is None else "ended",
        "ended_at": None if machine.ended_at is None else rfc3339(machine.ended_at),
    }
    if machine.kind == "key":
        out["prefix"] = machine.prefix
        out["expires_at"] = None if machine.expires_at is None else rfc3339(machine.expires_at)
    return out
