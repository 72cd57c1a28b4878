"""Which roles there are, where each one's code is, and how the local stack groups them into processes.

A role is ``async def run(ctx: RoleContext)``; its module is imported only when the role is started.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Services that decide: each is a writer and a query API.
SERVICES = ("ledger", "payments", "compliance", "ai", "auth")

#: Role -> ``module:function``.
ROLES: dict[str, str] = {
    "gateway": "gateway.app:run",
    **{name: f"services.{name}.app:run_writer" for name in SERVICES},
    **{f"{name}-api": f"services.{name}.app:run_api" for name in SERVICES},
    "payment-saga": "sagas.app:run_saga",
    "saga-router": "sagas.app:run_router",
    "heads": "events.head_signer:run",
    "projector": "projections.app:run_postgres",
    "search-projector": "projections.app:run_search",
}

#: Exit status of a process that can not work however often it is started (``EX_CONFIG`` of sysexits.h).
EXIT_BROKEN = 78

#: Priority of what only shows (projectors, Elasticsearch) against what decides, in the local stack.
VIEWS_NICENESS = 10

_STORES = frozenset({"postgres", "kafka"})


@dataclass(frozen=True)
class Group:
    """Roles that share a process of the local stack. Groups stop in the order of ``stop_tier``, lowest first."""

    roles: tuple[str, ...]
    needs: frozenset[str]
    stop_tier: int
    #: On a busy machine money moves first; views, which may lag a little, yield the processor.
    niceness: int = 0


#: Few processes, because each costs some 100 MB before it does anything.
GROUPS: dict[str, Group] = {
    "gateway": Group(("gateway",), frozenset({"kafka", "valkey"}), 0),
    "ledger": Group(("ledger",), _STORES, 1),
    "deciders": Group(("payments", "compliance", "ai", "auth", "heads"), _STORES, 1),
    "apis": Group(tuple(f"{name}-api" for name in SERVICES), frozenset({"postgres", "elasticsearch"}), 2),
    "projections": Group(("projector", "search-projector"), _STORES | {"elasticsearch"}, 2, VIEWS_NICENESS),
    # Half of the commands of a payment are the saga's: apart from the services, each half has a core.
    "sagas": Group(("payment-saga", "saga-router"), _STORES, 1),
}


def health_port_offset(group: str) -> int:
    """Ports of health endpoints follow each other in the order of :data:`GROUPS`."""
    return list(GROUPS).index(group)
