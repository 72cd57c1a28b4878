"""A platform whose roles are there to be killed: each role a process of its own, its own Kafka and database.

Faults are injected where a role can really fail a step: while :attr:`Mortal.trouble` is on, a tenth of the saga's
commands to the ledger, payments, risk and compliance is lost (the record ends in the dead letters and nobody is told)
and a tenth of those that may be refused is refused.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg

from cli.stack import ports, testing
from events.decider import Accepted, Context, Decider, Rejected
from events.migrations import migrate
from events.topics import ensure_topics
from nexafi.settings import Settings
from projections.migrations import migrate as migrate_views
from tests.kit.processes import Process
from tests.kit.source import ROOT

#: Process -> its roles. What answers queries is let live: a dead query API is no fault of a step.
PROCESSES: Final[dict[str, tuple[str, ...]]] = {
    "gateway": ("gateway",),
    "ledger": ("ledger",),
    "payments": ("payments",),
    "compliance": ("compliance",),
    "ai": ("ai",),
    "payment-saga": ("payment-saga",),
    "saga-router": ("saga-router",),
    "apis": ("auth", "auth-api", "ledger-api", "payments-api", "compliance-api"),
}
MORTAL: Final = tuple(name for name in PROCESSES if name != "apis")
_READY_S: Final = 180.0
#: Commands that a service refuses for reasons of its own, and the reason that is given in time of trouble.
_REFUSABLE: Final = {
    "ledger.place-hold.v1": "ceiling-exceeded",
    "ledger.post-hold.v1": "ceiling-exceeded",
    "ledger.post-transaction.v1": "ceiling-exceeded",
    "ai.score-payment.v1": "unknown-model",
    "compliance.screen-payment.v1": "list-not-loaded",
}
_PERCENT: Final = 10


class LostCommandError(ValueError):
    """A command that a fault took: it is decided by nobody."""


class Mortal:
    """The platform; :meth:`kill` and :meth:`spawn` at will."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self.settings = settings
        self.root = root
        self.trouble = root / "trouble"
        self.processes: dict[str, Process] = {}
        self.kills: dict[str, int] = {}

    @property
    def url(self) -> str:
        """The gateway's base URL."""
        return f"http://{self.settings.host}:{self.settings.port('gateway')}"

    # ------------------------------------------------------------------ processes

    def spawn(self, name: str) -> None:
        """Start a process of :data:`PROCESSES`; it is ready some time later."""
        s = self.settings
        env = {k: v for k, v in os.environ.items() if not k.startswith("NEXAFI_")} | {
            "NEXAFI_DATABASE_URL": s.database,
            "NEXAFI_KAFKA_BOOTSTRAP": s.kafka,
            "NEXAFI_REDIS_URL": s.redis,
            "NEXAFI_ELASTICSEARCH_URL": s.elasticsearch,
            "NEXAFI_PORT_BASE": str(s.port_base),
            "NEXAFI_DATA_DIR": str(s.data_dir),
            "NEXAFI_SANCTIONS_DIR": str(s.sanctions_dir),
            "NEXAFI_SAGA_STEP_TIMEOUT_S": str(s.saga_step_timeout_s),
            "NEXAFI_SAGA_RETRIES": str(s.saga_retries),
            "NEXAFI_SAGA_HOLD_S": str(s.saga_hold_s),
            "NEXAFI_SHARDS": orjson.dumps(s.shards).decode(),
            "NEXAFI_INSTANCE": name,
        }
        log = self.root / f"{name}.log"
        self.processes[name] = Process(
            run_roles, PROCESSES[name], self.health_port(name), str(self.trouble), env=env, log=log
        )

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        self.processes[name].kill()
        self.processes[name].wait(30)
        self.kills[name] = self.kills.get(name, 0) + 1

    def health_port(self, name: str) -> int:
        """Where a process says how it is."""
        return self.settings.port("health") + list(PROCESSES).index(name)

    def ready(self, name: str) -> bool:
        """Whether all roles of a process work."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.health_port(name)}/readyz", timeout=5
            ) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait_ready(self) -> None:
        """Wait until every process works."""
        deadline = time.monotonic() + _READY_S
        for name in self.processes:
            while not self.ready(name):
                assert self.processes[name].poll() is None, self.log(name)
                assert time.monotonic() < deadline, f"{name} is not ready: {self.log(name)}"
                time.sleep(0.1)

    def log(self, name: str, tail: int = 3000) -> str:
        """The end of what a process has written."""
        file = self.root / f"{name}.log"
        return file.read_text(errors="replace")[-tail:] if file.exists() else ""

    async def slaughter(self, rng: random.Random, count: int, victims: tuple[str, ...] = MORTAL) -> None:
        """Kill one process after the other, each while it works, and start it again at once."""
        for _ in range(count):
            await asyncio.sleep(rng.uniform(0.3, 1.5))
            name = rng.choice(victims)
            for _ in range(300):  # a process that has not begun to work can not be hit at work
                if await asyncio.to_thread(self.ready, name):
                    break
                await asyncio.sleep(0.1)
            await asyncio.to_thread(self.kill, name)
            self.spawn(name)

    def close(self) -> None:
        """End everything."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(30)

    # ------------------------------------------------------------------ what is stored

    def query(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        """Rows of the stores, read in one snapshot."""
        with psycopg.connect(self.settings.database) as conn:
            conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            return conn.execute(statement, params).fetchall()


@contextmanager
def mortal_platform(stack: Settings, **overrides: Any) -> Iterator[Mortal]:
    """All roles, ready, in a database of their own beside a Kafka of their own."""
    root = Path(tempfile.mkdtemp(prefix="nexafi-mortal-"))
    name = f"m_{secrets.token_hex(6)}"
    kafka = testing.start_servers({"kafka"}, bound=True)
    with psycopg.connect(stack.database, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    settings = stack.model_copy(
        update={
            "database_url": f"{stack.database.rpartition('/')[0]}/{name}",
            "kafka_bootstrap": kafka.settings.kafka,
            "port_base": ports.free_port_base(),
            "data_dir": root,
            "sanctions_dir": ROOT / "tests" / "data" / "ofac",
            "saga_step_timeout_s": 2,
            "saga_hold_s": 60,
            **overrides,
        }
    )
    mortal = Mortal(settings, root)
    try:
        migrate(settings)
        asyncio.run(ensure_topics(settings))
        migrate_views(settings)
        for each in PROCESSES:
            mortal.spawn(each)
        mortal.wait_ready()
        yield mortal
    finally:
        mortal.close()
        kafka.stop()
        testing.remove(kafka)
        with psycopg.connect(stack.database, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        shutil.rmtree(root, ignore_errors=True)


# ------------------------------------------------------------------ in the processes


def run_roles(roles: tuple[str, ...], health_port: int, trouble: str) -> int:
    """Body of a process: what `nexafi run` does, with faults at the border of its domains."""
    import events.service
    from cli.runner import run

    undisturbed = events.service.run_writer

    async def disturbed(ctx: Any, decider: Decider[Any]) -> None:
        if decider.service != "payment-saga":
            _disturb(decider, Path(trouble))
        await undisturbed(ctx, decider)

    events.service.run_writer = disturbed
    return int(run(list(roles), health_port=health_port))


def _disturb(decider: Decider[Any], trouble: Path) -> None:
    decide, rng = decider.decide, random.Random()

    def disturbed(command: Any, state: Any, ctx: Context) -> Accepted | Rejected:
        if ctx.saga_id and ctx.actor == "system:payment-saga" and trouble.exists():
            if rng.randrange(100) < _PERCENT:
                raise LostCommandError("a fault took this command")
            if command.TYPE in _REFUSABLE and rng.randrange(100) < _PERCENT:
                return Rejected(_REFUSABLE[command.TYPE], "a fault refused this command")
        return decide(command, state, ctx)

    decider.decide = disturbed  # type: ignore[method-assign]


def shown(counts: Mapping[str, int]) -> str:
    """Counts in one line."""
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))
