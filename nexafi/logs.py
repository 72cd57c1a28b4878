"""Structured logs: one line an event, with the correlation id, without personal data or secrets.

``configure`` routes structlog and the standard library's logging (uvicorn, aiokafka, SQLAlchemy) through
one pipeline. Redaction is the last step before rendering, so nothing passes beside it: names of fields
that hold people or secrets are blanked, and known shapes of secrets are found inside texts.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from nexafi.settings import Settings

REDACTED: Final = "[redacted]"
_MAX_TEXT: Final = 8192
#: A field is blanked when its name is one of these words or ends with one of them.
_PRIVATE: Final = re.compile(
    r"(?:^|[_.\- ])(?:authorization|cookie|secret|password|passphrase|token|apikey|api_key|private_key|"
    r"payer|payee|beneficiary|holder|full_name|first_name|last_name|matched_name|address|email|phone|iban|bic|pan|"
    r"card|cvv|cvc|ssn|birth_date|date_of_birth|description|metadata|note|body|data|input|input_value)$",
    re.IGNORECASE,
)
_SHAPES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*"), REDACTED),  # JWT
    (re.compile(r"\bnf[a-z]_[A-Za-z0-9_-]{8,}"), REDACTED),  # our API keys and client secrets
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), r"\1 " + REDACTED),
    (re.compile(r"://[^/\s:@]+:[^/\s@]+@"), "://" + REDACTED + "@"),  # credentials in a URL
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"), REDACTED),  # mail address
    (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"), REDACTED),  # IBAN
    (re.compile(r"input_value=.*?(?=, input_type=)", re.DOTALL), "input_value=" + REDACTED),  # pydantic
)
_CARD: Final = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")


@contextmanager
def correlation(identifier: str) -> Iterator[None]:
    """Everything logged inside carries this correlation id."""
    with structlog.contextvars.bound_contextvars(correlation_id=identifier):
        yield


def configure(settings: Settings, service: str) -> None:
    """Set up logging of this process, to standard error: console on a terminal, JSON lines elsewhere."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(service),
    ]
    console = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    last: Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer(default=str)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            last,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name, level in (("aiokafka", "WARNING"), ("uvicorn", "WARNING"), ("httpx", "WARNING")):
        logging.getLogger(name).setLevel(level)


def _named(service: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    return add


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """structlog processor: blank what must not be in a log."""
    return {key: _value(key, value, 0) for key, value in event.items()}


def _value(key: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return REDACTED if value is not None and _is_private(key) else value
    if _is_private(key):
        return REDACTED
    if isinstance(value, str):
        return scrub(value)
    if depth > 4:
        return REDACTED
    if isinstance(value, dict):
        return {str(k): _value(str(k), v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_value(key, v, depth + 1) for v in list(value)[:50]]
    return scrub(str(value))


def _is_private(key: str) -> bool:
    return _PRIVATE.search(key) is not None


def scrub(text: str) -> str:
    """``text`` without secrets of known shape, card numbers included, and of bounded length."""
    if len(text) > _MAX_TEXT:
        text = text[:_MAX_TEXT] + "..."
    for pattern, replacement in _SHAPES:
        text = pattern.sub(replacement, text)
    return _CARD.sub(_card, text)


def _card(match: re.Match[str]) -> str:
    digits = [int(c) for c in match.group() if c.isdigit()]
    total = sum(d if i % 2 == 0 else (d * 2 - 9 if d > 4 else d * 2) for i, d in enumerate(reversed(digits)))
    return REDACTED if total % 10 == 0 else match.group()
