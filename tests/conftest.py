"""Fixtures that every test may use. Servers start once, and only when a test asks for them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from nexafi.settings import Settings
from tests.kit.platform import Platform, platforms
from tests.kit.soak import Printed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses the servers carries the marker ``stack``, so that ``-m "not stack"`` needs none."""
    for item in items:
        if isinstance(item, pytest.Function) and {"stack", "platform"} & set(item.fixturenames):
            item.add_marker("stack")


@pytest.fixture(scope="session")
def stack() -> Iterator[Settings]:
    """Settings of four real servers: the shared ones when `nexafi teststack up` was run, else our own.

    Our own are the local stack's, or containers where ``NEXAFI_TEST_STACK=containers`` says so or the local stack
    can not run. Several runs may share them: make a database (fixture ``database_url``), topics and indexes with
    names of your own, and never rely on one being absent.
    """
    from cli.stack import testing
    from tests.kit import containers

    shared = testing.running_shared()
    kind = containers.choose(os.environ, shared_runs=shared is not None)
    if kind == "shared":
        assert shared is not None
        yield shared.settings
    elif kind == "containers":
        running = containers.start()
        try:
            yield running.settings
        finally:
            running.stop()
    else:
        own = testing.start_servers()
        try:
            yield own.settings
        finally:
            own.stop()
            testing.remove(own)


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """Servers and every role as processes, shared by all tests of a run: make tenants of your own, kill nothing."""
    yield from platforms()


@pytest.fixture
def database_url(stack: Settings) -> Iterator[str]:
    """libpq URL of an empty database that is only this test's."""
    import psycopg

    name = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(stack.database, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"{stack.database.rpartition('/')[0]}/{name}"
    with psycopg.connect(stack.database, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def printed(request: pytest.FixtureRequest) -> Printed:
    """Prints figures at a test's end; those of a soak are kept in ``docs/soak``."""
    return Printed(request.node.nodeid, keep=request.node.get_closest_marker("soak") is not None)
