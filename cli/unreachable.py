"""A server that does not answer is said in one line with what to do, whichever library found out."""

from __future__ import annotations

from typing import Final

#: Errors of the client libraries by full name (they are not imported for this) -> whose server it is.
_ERRORS: Final = {
    "psycopg.OperationalError": "PostgreSQL",
    "sqlalchemy.exc.OperationalError": "PostgreSQL",
    "aiokafka.errors.KafkaConnectionError": "Kafka",
    "redis.exceptions.ConnectionError": "Valkey",
    "elastic_transport.ConnectionError": "Elasticsearch",
    "httpx.ConnectError": "the gateway or a service",
}


def explain(error: BaseException) -> str | None:
    """The line to show for ``error``, or ``None`` when it says something else than that a server is absent."""
    for kind in type(error).__mro__:
        server = _ERRORS.get(f"{kind.__module__}.{kind.__qualname__}")
        if server is not None:
            reason = " ".join(str(error).split()) or type(error).__name__
            return (
                f"Can not work with {server}: {reason}\n"
                "./dev status says what runs here, ./dev up starts it; NEXAFI_DATABASE_URL, NEXAFI_KAFKA_BOOTSTRAP and "
                "the like name servers elsewhere."
            )
    return None
