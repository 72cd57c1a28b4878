"""Settings of every role, read from ``NEXAFI_*`` environment variables.

One prefix, one class: a role that runs under ``./dev up``, in a container or in Kubernetes reads the
same names. An address that is set replaces the embedded server of the local stack.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import quote

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nexafi import secret_file

#: Port offsets from ``port_base``; with the default base the services keep the ports in the documentation.
PORT_OFFSETS: dict[str, int] = {
    "gateway": 0,
    "users": 1,
    "ledger": 2,
    "payments": 3,
    "ai": 4,
    "compliance": 5,
    "notifications": 6,
    "analytics": 7,
    "credit": 8,
    "documents": 9,
    "open-banking": 10,
    "auth": 11,
    "integrations": 12,
    "postgres": 432,
    "valkey": 1379,
    "kafka": 4092,
    "kafka-controller": 4093,
    "elasticsearch": 4200,
    "elasticsearch-transport": 4300,
    "health": 900,  # of the first group of roles; the others follow
}

#: Shards (= Kafka partitions) of a service. Recorded in the store at the first start; another count is refused.
DEFAULT_SHARDS: dict[str, int] = {"ledger": 8, "payments": 8, "payment-saga": 8}
OTHER_SHARDS = 2


#: Known to everybody, so it protects nothing.
DEFAULT_HMAC_KEY: Final = "development-only-key"
MIN_KEY_CHARS: Final = 32


class Settings(BaseSettings):
    """All settings; ``NEXAFI_<NAME>`` in the environment overrides a default."""

    model_config = SettingsConfigDict(
        env_prefix="NEXAFI_", env_nested_delimiter="__", extra="ignore", use_attribute_docstrings=True
    )

    # --- where things are
    host: str = "127.0.0.1"
    """Address on which this process listens, and where the servers of the local stack are."""
    port_base: int = Field(default=5000, ge=1024, le=60000)
    """First port; every server and service has a fixed offset from it. Another base, another stack beside this one."""
    data_dir: Path = Path(".data")
    """Folder of the local stack: data of its servers, logs, generated secrets."""
    database_url: str | None = None
    """PostgreSQL (`postgresql://user:password@host:port/database`); absent: the embedded server."""
    kafka_bootstrap: str | None = None
    """Kafka bootstrap servers (`host:port,host:port`); absent: the embedded broker."""
    redis_url: str | None = None
    """Valkey or Redis (`redis://host:port/0`); absent: the embedded server."""
    elasticsearch_url: str | None = None
    """Elasticsearch 8 (`http://host:port`); absent: the embedded server."""
    service_urls: dict[str, str] = Field(default_factory=dict)
    """Base URL of each service's query API, as JSON, for services that are not on `host`."""

    # --- search
    search_prefix: str = Field(default="nexafi", pattern=r"^[a-z][a-z0-9]{0,31}$")
    """First part of the names of search indexes, so that installations can share an Elasticsearch."""
    search_replicas: int = Field(default=0, ge=0, le=8)
    """Replicas of each search index; one in production."""

    # --- identity of this process
    instance: str = "local"
    """Name of this process among its kind; a writer's static membership and a gateway's reply partition follow from it."""

    environment: Literal["development", "production"] = "development"
    """`production` refuses what is only good enough for one's own machine, whatever `host` is."""

    # --- secrets; `./dev up` generates them into `data_dir/secrets.env`
    database_password: SecretStr | None = None
    """Password of `nexafi` at the embedded PostgreSQL; a server of your own has it in its address."""
    redis_password: SecretStr | None = None
    """Password of the embedded Valkey; a server of your own has it in its address."""
    hmac_key: SecretStr = SecretStr(DEFAULT_HMAC_KEY)
    """Secret key of request hashes, claims and operation ids. The same for every role of an installation.
    The default works on loopback only."""

    signing_keys: SecretStr | None = None
    """Private P-256 keys of access tokens as a JWK set, newest first; a file in `data_dir` when not set."""

    head_signing_keys: SecretStr | None = None
    """Private P-256 keys that sign shard heads, as a JWK set, newest first; a file in `data_dir` when not set."""

    # --- risk and compliance
    sanctions_dir: Path | None = None
    """Folder of a sanctions list in OFAC's CSV layout; absent: the copy that comes with the product."""
    fraud_model_dir: Path | None = None
    """Folder of a fraud model (`model.json` and its ONNX file); absent: the baseline that comes with the product."""

    # --- payment sagas; running ones keep the deadlines that they were given
    saga_step_timeout_s: int = Field(default=30, ge=1, le=3600)
    """Seconds that a partner of a payment saga may take before its command is sent again."""
    saga_retries: int = Field(default=3, ge=0, le=100)
    """How often a saga sends a command again before it gives up and undoes what was done."""
    saga_review_days: int = Field(default=30, ge=1, le=365)
    """Days that an officer may take to decide about a sanctions hit."""
    saga_hold_s: int = Field(default=3600, ge=60, le=30 * 24 * 3600)
    """Seconds until a payment's hold in the ledger expires by itself."""

    # --- access tokens
    token_issuer: str | None = None
    """Public URL of the gateway, which is the issuer of its tokens; the local address when not set."""
    token_audience: str = "nexafi"  # noqa: S105 - a name
    """Audience that an access token must have."""
    token_lifetime_s: int = Field(default=600, ge=30, le=86_400)
    """Seconds that an access token lives."""

    # --- sizes; every queue, batch and wait has a bound
    shards: dict[str, int] = Field(default_factory=dict)
    """Shards of a service, as JSON (`{"ledger": 64}`). Fixed when the store is made; another count is refused."""
    batch_max_records: int = 2000
    """Most commands that one append commits together."""
    batch_wait_ms: int = 5
    """How long a writer waits for a batch to fill, in milliseconds."""
    snapshot_every: int = 100_000
    """Events of a shard between two snapshots."""
    heads_every_s: float = Field(default=10.0, ge=0.1, le=3600)
    """Seconds between two rounds of signing shard heads: what happened since the last round is not yet vouched for."""
    reply_partitions: int = 4
    """Partitions of `nexafi.replies`; at least as many as gateways."""
    kafka_replication: int = Field(default=1, ge=1, le=16)
    """Replicas of each topic that `migrate` creates; three in production."""
    max_body_bytes: int = 4 * 1024 * 1024
    """Largest request body that the gateway reads."""
    max_bulk_commands: int = 10_000
    """Most commands in one bulk request."""
    max_commands_per_shard: int = 4096
    """Most commands of one shard that a gateway has sent and not yet seen answered; more are refused (429). Fewer are taken
    while answers are slow, and one tenant never has more of them than are left free."""
    max_commands_per_tenant: int = 8192
    """The same, for one tenant over all shards."""
    max_bulk_chunks_per_tenant: int = 4
    """Most chunks (of up to 500 commands) of one tenant's bulks on their way at a time; more wait."""
    max_event_streams: int = 512
    """Most open event streams of one gateway."""
    max_event_streams_per_tenant: int = 64
    """Most open event streams of one tenant at one gateway."""

    drain_delay_s: float = Field(default=0.0, ge=0, le=5)
    """Seconds that a process which was told to stop still takes connections, already not ready: as long as the load
    balancer in front of it takes to notice."""

    # --- telemetry
    otlp_endpoint: str | None = None
    """OpenTelemetry collector (OTLP over HTTP); absent: nothing is exported."""
    trace_ratio: float = Field(default=0.01, ge=0, le=1)
    """Share of requests that are traced when the caller has not decided."""
    log_level: str = "INFO"
    """Least severe level that is logged."""

    @model_validator(mode="after")
    def _passwords_of_embedded_servers(self) -> Self:
        """They are in ``data_dir``, so whoever names a stack by its folder (a test, a benchmark) can log in."""
        if self.database_url is not None and self.redis_url is not None:
            return self
        found = secret_file.read(self.data_dir)
        for name in ("database_password", "redis_password"):
            if value := found.get(f"NEXAFI_{name.upper()}"):
                setattr(self, name, SecretStr(value))
        return self

    def complaint(self) -> str | None:
        """Why no process may start with these settings, and how to mend it; ``None`` when they are safe.

        Whoever knows the HMAC key reads every tenant's objects: it signs the requests between the roles.
        """
        key = self.hmac_key.get_secret_value()
        if self.environment != "production" and _is_loopback(self.host):
            return None
        if len(key) >= MIN_KEY_CHARS and not key.startswith("change-me"):
            return None
        what = "is the default" if key == DEFAULT_HMAC_KEY else f"has {len(key)} characters or is an example"
        where = f"NEXAFI_HOST is {self.host}" if not _is_loopback(self.host) else "this is production"
        return (
            f"NEXAFI_HMAC_KEY {what}, and {where}. It must be a secret of {MIN_KEY_CHARS} characters or more, the same "
            "for every role. Make one with `openssl rand -base64 48`, keep it in your secret store, and set "
            "NEXAFI_HMAC_KEY (or NEXAFI_HOST=127.0.0.1 on a machine of your own)."
        )

    def port(self, name: str) -> int:
        """TCP port of a server or service on this machine."""
        return self.port_base + PORT_OFFSETS[name]

    def shard_count(self, service: str) -> int:
        """Number of shards of ``service`` (1..1024)."""
        return self.shards.get(service, DEFAULT_SHARDS.get(service, OTHER_SHARDS))

    def service_url(self, name: str) -> str:
        """Base URL of a service's query API."""
        return self.service_urls.get(name, f"http://{self.host}:{self.port(name)}")

    @property
    def issuer(self) -> str:
        """Issuer of access tokens, and base of the gateway's own URLs."""
        return (self.token_issuer or f"http://{self.host}:{self.port('gateway')}").rstrip("/")

    @property
    def database(self) -> str:
        """libpq URL of PostgreSQL (``postgresql://user[:password]@host:port/db``)."""
        login = "nexafi" if self.database_password is None else f"nexafi:{_plain(self.database_password)}"
        return self.database_url or f"postgresql://{login}@{self.host}:{self.port('postgres')}/nexafi"

    @property
    def kafka(self) -> str:
        """Kafka bootstrap servers."""
        return self.kafka_bootstrap or f"{self.host}:{self.port('kafka')}"

    @property
    def redis(self) -> str:
        """Valkey/Redis URL."""
        login = "" if self.redis_password is None else f":{_plain(self.redis_password)}@"
        return self.redis_url or f"redis://{login}{self.host}:{self.port('valkey')}/0"

    @property
    def elasticsearch(self) -> str:
        """Elasticsearch base URL."""
        return self.elasticsearch_url or f"http://{self.host}:{self.port('elasticsearch')}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _plain(secret: SecretStr) -> str:
    """As it stands in an address."""
    return quote(secret.get_secret_value(), safe="")


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
