"""Elasticsearch 8.17: the bare server of its integration-test distribution.

Its shell script starts a launcher JVM (105 MB) that starts the server's JVM and hands it its arguments on
standard input. Here the server's JVM is started directly: one process less to keep and to orphan. The
arguments' format is ``org.elasticsearch.bootstrap.ServerArgs`` of the pinned version.
"""

from __future__ import annotations

import http.client
import json
import shutil
import struct
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from cli.roles import VIEWS_NICENESS as NICENESS
from cli.stack.process import Command, base_env
from cli.stack.servers.base import PROBE_TIMEOUT_S, Base

_LOG_CONFIG = """\
# Written by `./dev up` at every start; changes here are lost.
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.node.name = org.elasticsearch.node
logger.node.level = info
"""

#: The options that the launcher of 8.17 computes, less G1, the vector incubator and the garbage collection log.
_JVM_OPTIONS = (
    "-Des.networkaddress.cache.ttl=60",
    "-Des.networkaddress.cache.negative.ttl=10",
    "-Xss1m",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
    "-Djna.nosys=true",
    "-XX:-OmitStackTraceInFastThrow",
    "-Dio.netty.noUnsafe=true",
    "-Dio.netty.noKeySetOptimization=true",
    "-Dio.netty.recycler.maxCapacityPerThread=0",
    "-Dlog4j.shutdownHookEnabled=false",
    "-Dlog4j2.disable.jmx=true",
    "-Dlog4j2.formatMsgNoLookups=true",
    "-Djava.locale.providers=SPI,COMPAT",
    "-Des.distribution.type=zip",
    "--enable-native-access=org.elasticsearch.nativeaccess,org.apache.lucene.core",
    "-Djava.security.manager=allow",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-AlwaysPreTouch",
    "-Xms256m",
    "-Xmx384m",
    "-XX:MaxDirectMemorySize=201326592",
)
_MODULE = "org.elasticsearch.server/org.elasticsearch.bootstrap.Elasticsearch"
_KEYSTORE_CLASS = "org.elasticsearch.common.settings.KeyStoreWrapper"
_KEYSTORE_FORMAT = 6


class Elasticsearch(Base):
    """Search over projections."""

    name: ClassVar[str] = "elasticsearch"
    address_setting: ClassVar[str] = "elasticsearch_url"
    ports: ClassVar[tuple[str, ...]] = ("elasticsearch", "elasticsearch-transport")

    @property
    def address(self) -> str:
        """Base URL."""
        return self.settings.elasticsearch

    @property
    def _folder(self) -> Path:
        return self.layout.server(self.name)

    def prepare(self, log: Path) -> None:  # noqa: ARG002 - files are all it needs
        """Make its folders and write its configuration; the program's own folder is never written to."""
        self.layout.own(self._folder)
        temporary = self._folder / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in (self._folder / "config", self._folder / "data", self._folder / "logs", temporary):
            self.layout.own(folder)
        for name, text in (("log4j2.properties", _LOG_CONFIG), ("elasticsearch.yml", "")):
            file = self._folder / "config" / name
            file.write_text(text)
            self.layout.give(file)

    def _node_settings(self) -> dict[str, str]:
        return {
            "action.auto_create_index": "false",
            "cluster.name": "nexafi",
            "cluster.routing.allocation.disk.threshold_enabled": "false",
            "discovery.type": "single-node",
            "http.port": str(self.settings.port("elasticsearch")),
            "network.host": self.settings.host,
            "node.name": "local",
            "path.data": str(self._folder / "data"),
            "path.home": str(self.programs.elasticsearch_home),
            "path.logs": str(self._folder / "logs"),
            "transport.port": str(self.settings.port("elasticsearch-transport")),
            "xpack.security.enabled": "false",
        }

    def command(self) -> Command:
        """The server's JVM, directly."""
        home = self.programs.elasticsearch_home
        argv = [
            str(self.programs.java),
            *_JVM_OPTIONS,
            f"-Djava.io.tmpdir={self._folder / 'tmp'}",
            f"-XX:ErrorFile={self._folder / 'logs'}/hs_err_pid%p.log",
            *("--module-path", str(home / "lib")),
            *("--add-modules=jdk.net", "--add-modules=ALL-MODULE-PATH"),
            *("-m", _MODULE),
        ]
        arguments = server_arguments(self._node_settings(), self._folder / "config", self._folder / "logs")
        return Command(
            argv,
            env=base_env() | {"LIBFFI_TMPDIR": str(self._folder / "tmp")},
            cwd=self._folder,
            account=self.layout.account,
            stdin=arguments,
            stop_timeout_s=15.0,
            niceness=NICENESS,
        )

    def probe(self) -> str | None:
        """The cluster is yellow or green; the bare server has no ``GET /``."""
        url = urlsplit(self.address)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        link = kind(url.hostname or "127.0.0.1", url.port, timeout=PROBE_TIMEOUT_S)
        try:
            link.request("GET", f"{url.path.rstrip('/')}/_cluster/health")
            answer = link.getresponse()
            body = answer.read()
            if answer.status != http.HTTPStatus.OK:
                return f"HTTP {answer.status}"
            status = json.loads(body)["status"]
        except (OSError, http.client.HTTPException, ValueError) as error:
            return str(error) or type(error).__name__
        finally:
            link.close()
        return "the cluster is red" if status == "red" else None


def server_arguments(node_settings: dict[str, str], config: Path, logs: Path) -> bytes:
    """``ServerArgs`` as the launcher writes it: flags, pid file, an empty keystore, settings, two folders."""
    keystore = (
        _string(_KEYSTORE_CLASS)
        + struct.pack(">i", _KEYSTORE_FORMAT)
        + b"\x00"  # no password
        + b"\x00"  # no encrypted data
        + _vint(0)  # no entries
        + b"\x00"  # not closed
    )
    settings = _vint(len(node_settings)) + b"".join(
        _string(name) + b"\x00" + _string(value) for name, value in sorted(node_settings.items())
    )
    not_daemonized, not_quiet, no_pid_file = b"\x00", b"\x00", b"\x00"
    return (
        not_daemonized
        + not_quiet
        + no_pid_file
        + keystore
        + settings
        + _string(str(config))
        + _string(str(logs))
    )


def _vint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _string(text: str) -> bytes:
    """A length in UTF-16 units, then the text (modified UTF-8; paths and settings here are ASCII or BMP)."""
    return _vint(len(text)) + text.encode()
