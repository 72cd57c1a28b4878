"""Apache Kafka 4.3 in KRaft mode: one process that is broker and controller."""

from __future__ import annotations

import base64
import struct
import uuid
from pathlib import Path
from typing import ClassVar

from cli.stack import artifacts
from cli.stack.process import Command, base_env, run_once
from cli.stack.servers.base import Base, exchange

#: Topics are made by us with a stated partition count, so none is ever made by a typo.
#: Retention is unlimited by default: history is the product; a topic that may forget says so itself.
_CONFIG = """\
# Written by `./dev up` at every start; changes here are lost.
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.quorum.bootstrap.servers={host}:{controller_port}
log.dirs={data}/log
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
log.retention.ms=-1
message.max.bytes=4194304
replica.fetch.max.bytes=4194304
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
background.threads=2
delete.topic.enable=true
"""

_METADATA_V1 = 1
_METADATA_KEY = 3


class Kafka(Base):
    """The log that carries commands and events."""

    name: ClassVar[str] = "kafka"
    address_setting: ClassVar[str] = "kafka_bootstrap"
    ports: ClassVar[tuple[str, ...]] = ("kafka", "kafka-controller")

    @property
    def address(self) -> str:
        """Bootstrap servers."""
        return self.settings.kafka

    @property
    def _config(self) -> Path:
        return self.layout.server(self.name) / "server.properties"

    def prepare(self, log: Path) -> None:
        """Check every jar, write the configuration, format the log folder once."""
        for artifact in artifacts.of_part("kafka"):
            artifact.verify(artifact.path(self.layout.cache))
        data = self.layout.server(self.name)
        self.layout.own(data)
        text = _CONFIG.format(
            host=self.settings.host,
            port=self.settings.port("kafka"),
            controller_port=self.settings.port("kafka-controller"),
            data=data,
        )
        self._config.write_text(text)
        self.layout.give(self._config)
        if not (data / "log" / "meta.properties").exists():
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
            if cluster.startswith("-"):  # the tool would read it as an option
                cluster = "A" + cluster[1:]
            argv = self._java("kafka.tools.StorageTool", heap="128m")
            argv += ["format", "-t", cluster, "-c", str(self._config), "--standalone"]
            run_once(Command(argv, env=base_env(), account=self.layout.account), log, timeout_s=120)

    def _java(self, main: str, *, heap: str) -> list[str]:
        return [
            str(self.programs.java),
            f"-Xmx{heap}",
            *("-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Xshare:auto"),
            "-Djava.awt.headless=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
            *("-cp", ":".join(str(jar) for jar in self.programs.kafka_jars)),
            main,
        ]

    def command(self) -> Command:
        """SIGTERM is a controlled shutdown that leaves no log to recover."""
        argv = [*self._java("kafka.Kafka", heap="512m"), str(self._config)]
        argv.insert(1, "-Xms128m")
        return Command(
            argv,
            env=base_env(),
            cwd=self.layout.server(self.name),
            account=self.layout.account,
            stop_timeout_s=15.0,
        )

    def probe(self) -> str | None:
        """The broker lists at least one broker (itself): it is registered and unfenced."""
        problem = "no bootstrap server is named"
        for server in self.address.split(","):
            host, _, port = server.strip().rpartition(":")
            try:
                answer = exchange(host, int(port), _metadata_request(), 12)
            except OSError as error:
                problem = str(error)
                continue
            (brokers,) = struct.unpack(">i", answer[8:12])
            if brokers > 0:
                return None
            problem = "the broker is not registered yet"
        return problem


def _metadata_request() -> bytes:
    """Metadata v1 for no topic: what every client sends first (Kafka protocol guide, "Metadata API")."""
    client = b"nexafi-probe"
    body = struct.pack(">hhih", _METADATA_KEY, _METADATA_V1, 1, len(client)) + client + struct.pack(">i", 0)
    return struct.pack(">i", len(body)) + body
