"""``nexafi auth``: credentials of machines, and the keys that sign access tokens."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer

app = typer.Typer(help="Clients, API keys and signing keys.", no_args_is_help=True)
clients = typer.Typer(help="OAuth 2 clients (client credentials).", no_args_is_help=True)
keys = typer.Typer(help="API keys.", no_args_is_help=True)
signing = typer.Typer(help="The keys that sign access tokens.", no_args_is_help=True)
app.add_typer(clients, name="clients")
app.add_typer(keys, name="keys")
app.add_typer(signing, name="signing-keys")

T = TypeVar("T")
Tenant = Annotated[str, typer.Option(help="Whose credential it is.")]
Scopes = Annotated[
    list[str] | None, typer.Option("--scope", "-s", help="What it may do (repeat for more); all when absent.")
]
_ACTOR = "system:operator"


@app.callback()
def auth() -> None:
    """For operators: works for any tenant, with the installation's own key. Secrets are shown once."""


@clients.command("create")
def create_client(name: str, tenant: Tenant = "demo", scope: Scopes = None) -> None:
    """Register a client; it can ask for tokens at once."""
    from services.auth.issuing import Issuer

    async def work() -> dict[str, Any]:
        async with Issuer(_settings(), actor=_ACTOR) as issuer:
            made = await issuer.client(tenant, name, _scopes(scope), _once())
        return {"tenant": tenant, "client_id": made.id, "client_secret": made.secret}

    _show(_run(work()))


@clients.command("list")
def list_clients(tenant: Tenant = "demo") -> None:
    """A tenant's clients, ended ones too."""
    _table(_run(_pages("/internal/v1/clients", tenant)))


@clients.command("disable")
def disable_client(client_id: str, tenant: Tenant = "demo") -> None:
    """No further token; tokens that it has end within seconds."""
    from services.auth.issuing import Issuer

    async def work() -> None:
        async with Issuer(_settings(), actor=_ACTOR) as issuer:
            await issuer.disable_client(tenant, client_id, _once())

    _run(work())
    typer.echo(f"{client_id} is disabled")


@keys.command("create")
def create_key(
    name: str,
    tenant: Tenant = "demo",
    scope: Scopes = None,
    days: Annotated[int | None, typer.Option(min=1, help="It ends after so many days.")] = None,
) -> None:
    """Issue an API key; it works at once."""
    from services.auth.issuing import Issuer

    ends = None if days is None else datetime.now(UTC) + timedelta(days=days)
    expires_at = None if ends is None else int(ends.timestamp() * 1_000_000)

    async def work() -> dict[str, Any]:
        async with Issuer(_settings(), actor=_ACTOR) as issuer:
            made = await issuer.api_key(tenant, name, _scopes(scope), _once(), expires_at)
        return {"tenant": tenant, "key_id": made.id, "api_key": made.secret}

    _show(_run(work()))


@keys.command("list")
def list_keys(tenant: Tenant = "demo") -> None:
    """A tenant's API keys, ended ones too."""
    _table(_run(_pages("/internal/v1/api-keys", tenant)))


@keys.command("revoke")
def revoke_key(key_id: str, tenant: Tenant = "demo") -> None:
    """The key stops working within seconds."""
    from services.auth.issuing import Issuer

    async def work() -> None:
        async with Issuer(_settings(), actor=_ACTOR) as issuer:
            await issuer.revoke_api_key(tenant, key_id, _once())

    _run(work())
    typer.echo(f"{key_id} is revoked")


@signing.command("show")
def jwks() -> None:
    """The public keys, as at /.well-known/jwks.json."""
    from nexafi.signing import SigningKeys

    _show(SigningKeys.of(_settings()).jwks())


@signing.command("rotate")
def rotate() -> None:
    """Sign with a new key; the last one still verifies, so no token that is valid now breaks."""
    from nexafi.signing import SigningKeys

    try:
        made = SigningKeys.of(_settings()).rotate()
    except ValueError as error:
        raise _failed(str(error)) from None
    typer.echo(f"{made} signs from now on; the key before it verifies until the next rotation")


@app.command()
def token(
    client_id: str,
    scope: Annotated[list[str] | None, typer.Option("--scope", "-s", help="Narrow it to these.")] = None,
) -> None:
    """Mint an access token of a client without its secret, for work on this machine. Only the token is printed."""
    from nexafi.signing import AccessTokens, SigningKeys

    settings = _settings()
    client = _run(_ask(f"/internal/clients/{client_id}", ""))
    if not client["live"]:
        raise _failed(f"{client_id} is disabled")
    granted = sorted(scope or client["scopes"])
    if not set(granted) <= set(client["scopes"]):
        raise _failed(f"the client has only {' '.join(client['scopes'])}")
    tokens = AccessTokens(
        SigningKeys.of(settings),
        issuer=settings.issuer,
        audience=settings.token_audience,
        lifetime_s=settings.token_lifetime_s,
    )
    typer.echo(tokens.issue(client_id, client["tenant"], granted))


def _settings() -> Any:
    from nexafi.settings import Settings

    return Settings()


def _scopes(chosen: list[str] | None) -> list[str]:
    from schemas.common.scopes import SCOPES

    return sorted(chosen or SCOPES)


def _once() -> str:
    return secrets.token_hex(16)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run; what goes wrong is a sentence and status 1."""
    import httpx
    import psycopg
    from aiokafka.errors import KafkaError
    from pydantic import ValidationError

    from services.auth.issuing import RefusedError

    try:
        return asyncio.run(work)
    except (RefusedError, TimeoutError) as error:
        raise _failed(str(error)) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _failed(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (KafkaError, psycopg.Error, httpx.HTTPError) as error:
        raise _failed(f"the platform does not answer ({type(error).__name__}): does it run?") from None


def _failed(text: str) -> typer.Exit:
    typer.echo(text, err=True)
    return typer.Exit(1)


async def _ask(target: str, tenant: str) -> dict[str, Any]:
    """A signed question to the auth service."""
    import httpx

    from nexafi.internal_auth import InternalAuth
    from services.auth.issuing import RefusedError

    settings = _settings()
    headers = InternalAuth.of(settings).sign(tenant, _ACTOR, target)
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        answer = await http.get(settings.service_url("auth").rstrip("/") + target, headers=headers)
    if answer.status_code == 404:
        raise RefusedError("not-found", "There is no such credential.")
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


async def _pages(path: str, tenant: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = await _ask(f"{path}?limit=200&cursor={cursor}", tenant)
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = page["next_cursor"]


def _show(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("id", no_wrap=True, min_width=36)
    for name in ("name", "status", "created", "scopes"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(
            row["id"], row["name"], row["status"], row["created_at"][:19] + "Z", " ".join(row["scopes"])
        )
    Console(soft_wrap=True).print(table)
