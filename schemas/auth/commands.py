"""Commands of the auth service, as far as machines need it: OAuth 2 clients and API keys."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.common.base import Command, Id, Micros

Scope = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}:[a-z*][a-z0-9-]{0,31}$")]
Name = Annotated[str, Field(min_length=1, max_length=128)]
Tenant = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class RegisterClient(Command):
    """Register a confidential OAuth 2 client. The secret never leaves the caller: only its keyed hash arrives."""

    TYPE: ClassVar[str] = "auth.register-client.v1"

    name: Name
    secret_hash: Hash
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=64)]


class DisableClient(Command):
    """The client gets no further token."""

    TYPE: ClassVar[str] = "auth.disable-client.v1"

    client_id: Id


class IssueApiKey(Command):
    """Issue an API key; only its keyed hash and its visible prefix are kept."""

    TYPE: ClassVar[str] = "auth.issue-api-key.v1"

    name: Name
    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_]{4,24}$")]
    key_hash: Hash
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=64)]
    expires_at: Micros | None = None


class RevokeApiKey(Command):
    """The key stops working."""

    TYPE: ClassVar[str] = "auth.revoke-api-key.v1"

    key_id: Id


COMMANDS: dict[str, type[Command]] = {
    c.TYPE: c for c in (RegisterClient, DisableClient, IssueApiKey, RevokeApiKey)
}
