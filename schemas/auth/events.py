"""Events of the auth service. Streams: a client, an API key."""

from __future__ import annotations

from typing import ClassVar

from schemas.common.base import Event


class ClientRegistered(Event):
    """Stream: the client. The tenant is the event's."""

    TYPE: ClassVar[str] = "auth.client-registered.v1"

    client_id: str
    name: str
    secret_hash: str
    scopes: list[str]


class ClientDisabled(Event):
    """Stream: the client."""

    TYPE: ClassVar[str] = "auth.client-disabled.v1"

    client_id: str


class ApiKeyIssued(Event):
    """Stream: the key."""

    TYPE: ClassVar[str] = "auth.api-key-issued.v1"

    key_id: str
    name: str
    prefix: str
    key_hash: str
    scopes: list[str]
    expires_at: int | None = None


class ApiKeyRevoked(Event):
    """Stream: the key."""

    TYPE: ClassVar[str] = "auth.api-key-revoked.v1"

    key_id: str


EVENTS: dict[str, type[Event]] = {
    e.TYPE: e for e in (ClientRegistered, ClientDisabled, ApiKeyIssued, ApiKeyRevoked)
}
