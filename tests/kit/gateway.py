"""A gateway process of one's own beside a platform's: to be killed, drained and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from cli.roles import SERVICES
from cli.stack import ports
from tests.kit.platform import Platform
from tests.kit.source import ROOT

_READY_S = 90.0


class OwnGateway:
    """A process of the role ``gateway``; the services behind it are the platform's."""

    def __init__(self, platform: Platform, **settings: str) -> None:
        base = ports.free_port_base()
        own = platform.settings
        urls = {name: own.service_url(name) for name in SERVICES}
        self.base = f"http://127.0.0.1:{base}"
        self.health = f"http://127.0.0.1:{base + 900}"
        self._health_port = base + 900
        self._folder = Path(tempfile.mkdtemp(prefix="nexafi-gateway-"))
        self.log_file = self._folder / "gateway.log"
        self._env = dict(os.environ) | {
            "NEXAFI_PORT_BASE": str(base),
            "NEXAFI_DATA_DIR": str(own.data_dir),
            "NEXAFI_DATABASE_URL": own.database,
            "NEXAFI_KAFKA_BOOTSTRAP": own.kafka,
            "NEXAFI_REDIS_URL": own.redis,
            "NEXAFI_ELASTICSEARCH_URL": own.elasticsearch,
            "NEXAFI_SERVICE_URLS": orjson.dumps(urls).decode(),
            "NEXAFI_HMAC_KEY": own.hmac_key.get_secret_value(),
            "NEXAFI_TOKEN_ISSUER": own.issuer,
            "NEXAFI_INSTANCE": f"own-{base}",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli.runner", "gateway", "--health-port", str(self._health_port)],
                cwd=ROOT,
                env=self._env,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _READY_S
        while self.readiness() != 200:
            assert self._process.poll() is None, self.log_file.read_text()
            assert time.monotonic() < deadline, self.log_file.read_text()
            time.sleep(0.1)

    def readiness(self) -> int:
        """Status of ``/readyz``; 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.health}/readyz", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Its exit status, once it has ended."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextmanager
def own_gateway(platform: Platform, **settings: str) -> Iterator[OwnGateway]:
    """A running gateway of one's own; ``settings`` are variables of its environment."""
    made = OwnGateway(platform, **settings)
    try:
        made.start()
        yield made
    finally:
        made.kill()
        shutil.rmtree(made.log_file.parent, ignore_errors=True)
