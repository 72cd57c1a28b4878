"""Auditors at work: the command line in this process, against a test's own store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from nexafi.settings import Settings
from tests.kit.engine import Engine

Command: TypeAlias = Callable[..., Result]


@pytest.fixture
async def engine(stack: Settings, database_url: str) -> AsyncIterator[Engine]:
    """A counter service with its own database and topics."""
    engine = await Engine.create(stack, database_url, snapshot_every=200)
    yield engine
    await engine.close()


@pytest.fixture
def nexafi(stack: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """``nexafi <arguments>``; its result has the output and the exit status."""
    monkeypatch.setenv("NEXAFI_DATABASE_URL", database_url)
    monkeypatch.setenv("NEXAFI_KAFKA_BOOTSTRAP", stack.kafka)
    monkeypatch.setenv("NEXAFI_DATA_DIR", str(tmp_path))
    runner = CliRunner()

    def run(*arguments: str, status: int = 0) -> Result:
        result = runner.invoke(app, arguments)
        assert result.exit_code == status, (arguments, result.output, result.exception)
        return result

    return run
