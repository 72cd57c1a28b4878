"""An engine per test, as in the engine's own tests."""

from tests.integration.engine.conftest import engine

__all__ = ["engine"]
