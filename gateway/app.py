"""The gateway: the lean routes of the tables before a small FastAPI application for everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka.errors import KafkaError
from fastapi import FastAPI
from opentelemetry.metrics import CallbackOptions, Observation

from events.producer import CommandProducer
from events.replies import ReplyListener
from gateway import oauth
from gateway.bulk import BulkEndpoint, TenantGates
from gateway.commands import CommandEndpoint, Desk
from gateway.edge import ANY_PRINCIPAL, Router
from gateway.flights import Flights
from gateway.hub import Hub
from gateway.openapi import document
from gateway.operations import GetOperation
from gateway.principal import Authenticator, Directory
from gateway.queries import QueryEndpoint
from gateway.routes import COMMANDS, QUERIES
from gateway.streams import SCOPE as EVENTS_READ
from gateway.streams import EventStreamEndpoint, OperationEventsEndpoint
from gateway.upstream import Services
from nexafi import telemetry
from nexafi.credentials import CredentialKeys
from nexafi.http import install_problem_handlers, serve
from nexafi.memory import settle_heap
from nexafi.role import Health, RoleContext
from nexafi.settings import Settings
from nexafi.signing import AccessTokens, SigningKeys

log = structlog.get_logger(__name__)
_CONNECT_RETRY_S: Final = 1.0
#: While draining, a caller who waits gets his answer within this long, or the 202 that is true in any case.
DRAIN_WAIT_S: Final = 5.0


@dataclass
class Gateway:
    """The parts of one gateway process."""

    settings: Settings
    producer: CommandProducer
    replies: ReplyListener
    services: Services
    flights: Flights
    router: Router
    hub: Hub

    @classmethod
    def build(cls, settings: Settings) -> Gateway:
        """Wire the parts; nothing is connected yet."""
        producer, replies, services = (
            CommandProducer(settings, client="gateway"),
            ReplyListener(settings),
            Services(settings),
        )
        secrets, directory = CredentialKeys.of(settings), Directory(services)
        issuer = settings.issuer
        access = AccessTokens(
            SigningKeys.of(settings),
            issuer=issuer,
            audience=settings.token_audience,
            lifetime_s=settings.token_lifetime_s,
        )
        flights = Flights(replies, settings)
        desk = Desk(settings, producer, flights, replies.address, services)
        app = FastAPI(title="NexaFi", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
        install_problem_handlers(app)
        app.include_router(oauth.router(access, secrets, directory))
        described = document()
        app.add_api_route("/openapi.json", lambda: described, include_in_schema=False)
        router = Router(Authenticator(access, secrets, directory), app)
        telemetry.observed("nexafi.gateway.requests", "Requests by route and status.", router.observe)
        gates = TenantGates(settings.max_bulk_chunks_per_tenant)
        for route in COMMANDS:
            router.add(route.method, route.path, route.scope, CommandEndpoint(route, desk))
            if route.bulk is not None:
                router.add("POST", route.bulk, route.scope, BulkEndpoint(route, desk, gates))
        for query in QUERIES:
            router.add(query.method, query.path, query.scope, QueryEndpoint(query, services))
        operation = GetOperation(desk.operations, services)
        router.add("GET", "/v1/operations/{operation_id}", ANY_PRINCIPAL, operation, any_id=True)
        hub = Hub(settings)
        router.add("GET", "/v1/events", EVENTS_READ, EventStreamEndpoint(hub, services, router.auth))
        following = OperationEventsEndpoint(hub, services, router.auth, desk.operations)
        router.add("GET", "/v1/operations/{operation_id}/events", EVENTS_READ, following, any_id=True)
        _watch_what_is_open(
            {
                "flights": lambda: len(flights),
                "replies_awaited": lambda: len(replies),
                "event_streams": lambda: len(hub),
                "bodies_held_bytes": lambda: router.intake.held,
            }
        )
        return cls(settings, producer, replies, services, flights, router, hub)

    async def start(self, health: Health, stop: asyncio.Event) -> None:
        """Connect; try again until Kafka answers or ``stop`` is set. Not ready before that."""
        await self.services.start()
        while not stop.is_set():
            try:
                await self.producer.start()
                await self.replies.start()
            except (KafkaError, OSError) as error:
                health.bad("kafka", f"can not connect: {type(error).__name__}: {error}")
                await asyncio.sleep(_CONNECT_RETRY_S)
            else:
                health.ok("kafka")
                return

    async def drain(self, stop: asyncio.Event) -> None:
        """As soon as ``stop`` is set: streams end and say why, waiting callers get what there is."""
        await stop.wait()
        self.hub.drain()
        self.flights.drain(DRAIN_WAIT_S)

    async def stop(self) -> None:
        """Disconnect."""
        await self.hub.stop()
        await self.replies.stop()
        await self.producer.stop()
        await self.services.stop()


async def run(ctx: RoleContext) -> None:
    """The role ``gateway``."""
    ctx.health.expect("kafka")
    gateway = Gateway.build(ctx.settings)
    await gateway.start(ctx.health, ctx.stop)
    settle_heap()  # the collector took a fifth of the time of a request
    background = [
        asyncio.create_task(gateway.flights.sweep(), name="flights"),
        asyncio.create_task(_watch_replies(gateway.replies, ctx.health), name="replies"),
        asyncio.create_task(gateway.drain(ctx.stop), name="drain"),
    ]
    try:
        await serve(gateway.router, ctx.settings.port("gateway"), ctx, name="gateway")
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await gateway.stop()


def _watch_what_is_open(counts: dict[str, Callable[[], int]]) -> None:
    """One gauge each for what ends with its request; with no request open, all of them are zero."""

    def reading(count: Callable[[], int]) -> Callable[[CallbackOptions], list[Observation]]:
        return lambda _options: [Observation(count())]

    for name, count in counts.items():
        telemetry.watched(f"nexafi.gateway.{name}", "Open at this gateway now.", reading(count))


async def _watch_replies(replies: ReplyListener, health: Health) -> None:
    while True:
        if replies.listening:
            health.ok("replies")
        else:
            health.bad("replies", "the listener ended; waiting callers get 202")
        await asyncio.sleep(2.0)


def openapi_document() -> dict[str, Any]:
    """OpenAPI 3.1 of the public API."""
    return document()
