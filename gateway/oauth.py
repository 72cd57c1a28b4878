"""The authorization server, as far as machines need it: OAuth 2.0 client credentials (RFC 6749, section 4.4).

Metadata follows RFC 8414, keys RFC 7517. Errors of the token endpoint have the form of RFC 6749, section 5.2,
which its clients expect; everything else answers with problems.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from gateway.principal import Directory
from nexafi.credentials import CredentialKeys
from nexafi.ids import is_id
from nexafi.signing import ALGORITHM, AccessTokens
from schemas.common.scopes import SCOPES

MAX_FORM_BYTES: Final = 16 * 1024
#: Token requests at a time: each may ask the auth service.
MAX_OPEN: Final = 64
_NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}
#: Compared with when a client is unknown, so that the answer takes as long.
_NOBODY: Final = "0" * 64


class OAuthError(Exception):
    """An error of the token endpoint."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status


class TokenEndpoint:
    """``POST /oauth/token``."""

    def __init__(self, tokens: AccessTokens, secrets: CredentialKeys, directory: Directory) -> None:
        self._tokens = tokens
        self._secrets = secrets
        self._directory = directory
        self._slots = asyncio.Semaphore(MAX_OPEN)

    async def __call__(self, request: Request) -> JSONResponse:
        """Issue a token, or say why not."""
        try:
            form = await _form(request)
            async with self._slots:
                return await self._issue(request, form)
        except OAuthError as error:
            headers = dict(_NO_STORE)
            if error.status == 401:
                headers["www-authenticate"] = 'Basic realm="nexafi"'
            body = {"error": error.error, "error_description": error.description}
            return JSONResponse(body, error.status, headers)

    async def _issue(self, request: Request, form: dict[str, str]) -> JSONResponse:
        if "grant_type" not in form:
            raise OAuthError("invalid_request", "grant_type is missing")
        if form["grant_type"] != "client_credentials":
            raise OAuthError("unsupported_grant_type", "only client_credentials is known here")
        client_id, secret = _client(request, form)
        client = await self._directory.client(client_id) if is_id(client_id) else None
        matches = self._secrets.matches(secret, client.hash if client else _NOBODY)
        if client is None or not matches or not client.live:
            raise OAuthError("invalid_client", "the client is not known, or this is not its secret", 401)
        granted = client.scopes
        if wanted := frozenset(form.get("scope", "").split()):
            if not wanted <= granted:
                raise OAuthError("invalid_scope", "a scope was asked for that the client does not have")
            granted = wanted
        scopes = sorted(granted)
        body = {
            "access_token": self._tokens.issue(client.id, client.tenant, scopes),
            "token_type": "Bearer",
            "expires_in": self._tokens.lifetime_s,
            "scope": " ".join(scopes),
        }
        return JSONResponse(body, 200, _NO_STORE)


async def _form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "send application/x-www-form-urlencoded")
    body = b""
    async for (
        part
    ) in request.stream():  # nobody has to prove who he is before this: no more is read than is used
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise OAuthError("invalid_request", "the form is too large", 413)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=16, strict_parsing=bool(body))
    except ValueError:
        raise OAuthError("invalid_request", "the form can not be read") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthError("invalid_request", "a parameter is given twice")
    return form


def _client(request: Request, form: dict[str, str]) -> tuple[str, str]:
    """Client id and secret by basic or post authentication; both at once is refused (RFC 6749, 2.3)."""
    header = request.headers.get("authorization")
    if header is None:
        if "client_id" not in form or "client_secret" not in form:
            raise OAuthError("invalid_client", "client authentication is missing", 401)
        return form["client_id"], form["client_secret"]
    if "client_secret" in form:
        raise OAuthError("invalid_request", "two ways of client authentication at once")
    scheme, _, value = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError("scheme")  # noqa: TRY301
        name, colon, secret = b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        raise OAuthError("invalid_client", "the Authorization header can not be read", 401) from None
    if not colon or ("client_id" in form and form["client_id"] != unquote_plus(name)):
        raise OAuthError("invalid_client", "the Authorization header can not be read", 401)
    return unquote_plus(name), unquote_plus(secret)


def metadata(issuer: str) -> dict[str, Any]:
    """Authorization server metadata (RFC 8414)."""
    return {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/oauth/token",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "scopes_supported": sorted(SCOPES),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "access_token_signing_alg_values_supported": [ALGORITHM],
        "service_documentation": "https://nexafi.dev/docs",
    }


def router(tokens: AccessTokens, secrets: CredentialKeys, directory: Directory) -> APIRouter:
    """The routes that need no principal."""
    routes = APIRouter()
    endpoint = TokenEndpoint(tokens, secrets, directory)

    async def token(request: Request) -> JSONResponse:
        return await endpoint(request)

    async def jwks() -> JSONResponse:
        return JSONResponse(tokens.keys.jwks(), headers={"cache-control": "public, max-age=300"})

    async def server_metadata() -> JSONResponse:
        return JSONResponse(metadata(tokens.issuer), headers={"cache-control": "public, max-age=300"})

    routes.add_api_route("/oauth/token", token, methods=["POST"], include_in_schema=False)
    routes.add_api_route("/.well-known/jwks.json", jwks, include_in_schema=False)
    routes.add_api_route("/.well-known/oauth-authorization-server", server_metadata, include_in_schema=False)
    return routes
