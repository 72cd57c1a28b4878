"""Clients and API keys of machines: who may be issued one, and when it ends.

Streams: a client, an API key. Only hashes of secrets arrive here. What has ended stays in memory as one
word, because a second "disable" must be told from one for a client that never was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

import orjson

from events.decider import Accepted, Context, Decider, Emit, EventMeta, Rejected
from schemas.auth.commands import COMMANDS, DisableClient, IssueApiKey, RegisterClient, RevokeApiKey
from schemas.auth.events import EVENTS, ApiKeyIssued, ApiKeyRevoked, ClientDisabled, ClientRegistered
from schemas.common.base import Command, Event
from schemas.common.scopes import is_known_scope
from services.auth.reasons import REASONS

#: Live clients and keys of one tenant on one shard.
MAX_LIVE: Final = 1000
_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

Kind = Literal["client", "key"]


@dataclass(slots=True)
class Credential:
    """A client or key; ``version`` is its stream's."""

    kind: Kind
    tenant: str
    version: int
    live: bool


@dataclass(slots=True)
class AuthState:
    """One shard: every credential by id, and how many live ones a tenant has."""

    credentials: dict[str, Credential] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)


class AuthDecider(Decider[AuthState]):
    """Decides on credentials of machines."""

    service: ClassVar[str] = "auth"
    state_version: ClassVar[int] = 1
    commands: ClassVar[Mapping[str, type[Command]]] = COMMANDS
    events: ClassVar[Mapping[str, type[Event]]] = EVENTS

    def initial(self, shard: int) -> AuthState:  # noqa: ARG002 - every shard begins alike
        """No credentials."""
        return AuthState()

    def decide(self, command: Command, state: AuthState, ctx: Context) -> Accepted | Rejected:
        """Judge one command."""
        match command:
            case RegisterClient():
                return self._register(command, state, ctx)
            case IssueApiKey():
                return self._issue(command, state, ctx)
            case DisableClient():
                return self._end(command.client_id, "client", state, ctx)
            case RevokeApiKey():
                return self._end(command.key_id, "key", state, ctx)
        raise TypeError(f"not a command of auth: {type(command).__name__}")

    def _register(self, command: RegisterClient, state: AuthState, ctx: Context) -> Accepted | Rejected:
        if refusal := self._may_have_more(command.scopes, state, ctx):
            return refusal
        client_id = ctx.new_id("client")
        event = ClientRegistered(
            client_id=client_id,
            name=command.name,
            secret_hash=command.secret_hash,
            scopes=sorted(set(command.scopes)),
        )
        return Accepted([Emit(client_id, 1, event)], {"client_id": client_id})

    def _issue(self, command: IssueApiKey, state: AuthState, ctx: Context) -> Accepted | Rejected:
        if refusal := self._may_have_more(command.scopes, state, ctx):
            return refusal
        if command.expires_at is not None and command.expires_at <= ctx.now_us:
            return _refuse("expires-in-the-past", "/expires_at")
        key_id = ctx.new_id("key")
        event = ApiKeyIssued(
            key_id=key_id,
            name=command.name,
            prefix=command.prefix,
            key_hash=command.key_hash,
            scopes=sorted(set(command.scopes)),
            expires_at=command.expires_at,
        )
        return Accepted([Emit(key_id, 1, event)], {"key_id": key_id})

    def _may_have_more(self, scopes: list[str], state: AuthState, ctx: Context) -> Rejected | None:
        if not _TENANT.fullmatch(ctx.tenant):
            return _refuse("invalid-tenant")
        for index, scope in enumerate(scopes):
            if not is_known_scope(scope):
                return _refuse("unknown-scope", f"/scopes/{index}")
        if state.live.get(ctx.tenant, 0) >= MAX_LIVE:
            return _refuse("too-many-credentials")
        return None

    def _end(self, identifier: str, kind: Kind, state: AuthState, ctx: Context) -> Accepted | Rejected:
        known = state.credentials.get(identifier)
        if known is None or known.kind != kind or known.tenant != ctx.tenant:
            return _refuse(f"{kind}-not-found", f"/{kind}_id")
        if not known.live:
            return _refuse("client-disabled" if kind == "client" else "key-revoked", f"/{kind}_id")
        event: Event = (
            ClientDisabled(client_id=identifier) if kind == "client" else ApiKeyRevoked(key_id=identifier)
        )
        return Accepted([Emit(identifier, known.version + 1, event)], {f"{kind}_id": identifier})

    def evolve(self, state: AuthState, event: Event, meta: EventMeta) -> AuthState:
        """Apply one event."""
        match event:
            case ClientRegistered() | ApiKeyIssued():
                kind: Kind = "client" if isinstance(event, ClientRegistered) else "key"
                state.credentials[meta.stream] = Credential(kind, meta.tenant, meta.version, live=True)
                state.live[meta.tenant] = state.live.get(meta.tenant, 0) + 1
            case ClientDisabled() | ApiKeyRevoked():
                known = state.credentials[meta.stream]
                known.version = meta.version
                if known.live:
                    known.live = False
                    state.live[known.tenant] -= 1
        return state

    def dump(self, state: AuthState) -> bytes:
        """Canonical bytes: credentials in the order of their ids; the counts follow from them."""
        rows = [[i, c.kind, c.tenant, c.version, c.live] for i, c in sorted(state.credentials.items())]
        return orjson.dumps(rows)

    def load(self, data: bytes) -> AuthState:
        """Inverse of ``dump``."""
        state = AuthState()
        rows: list[Any] = orjson.loads(data)
        for identifier, kind, tenant, version, live in rows:
            state.credentials[identifier] = Credential(kind, tenant, version, live)
            if live:
                state.live[tenant] = state.live.get(tenant, 0) + 1
        return state


def _refuse(reason: str, pointer: str | None = None) -> Rejected:
    return Rejected(reason, REASONS[reason], pointer)
