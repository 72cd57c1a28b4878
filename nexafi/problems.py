"""Problems of RFC 9457: the types that the edge itself answers with, and the one way to build a body.

Every slug here and every refusal reason of a domain has a section in ``docs/reference/problems.md``; a
test keeps it so. A body never repeats what was sent: inputs may be personal data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic_core import ErrorDetails

from schemas.common.problems import MEDIA_TYPE, PROBLEM_BASE

#: Slug -> (HTTP status, title). Stable: clients switch on the type.
EDGE: Final[dict[str, tuple[int, str]]] = {
    "malformed-request": (400, "The request can not be read"),
    "malformed-json": (400, "The body is not JSON"),
    "idempotency-key-required": (400, "A command needs an Idempotency-Key"),
    "idempotency-key-invalid": (400, "The Idempotency-Key can not be used"),
    "invalid-parameter": (400, "A parameter or header is not valid"),
    "invalid-consistency-token": (400, "The consistency token can not be used"),
    "unauthenticated": (401, "Authentication is required"),
    "invalid-token": (401, "The access token is not valid"),
    "invalid-api-key": (401, "The API key is not valid"),
    "forbidden": (403, "A scope is missing"),
    "not-found": (404, "There is no such resource"),
    "method-not-allowed": (405, "The resource has no such method"),
    "not-acceptable": (406, "The answer can not be given in an accepted form"),
    "request-timeout": (408, "The request arrived too slowly"),
    "conflict": (409, "The request conflicts with what is there"),
    "body-too-large": (413, "The body is too large"),
    "uri-too-long": (414, "The path or query is too long"),
    "unsupported-media-type": (415, "The media type is not supported"),
    "validation-failed": (422, "The body is not valid"),
    "idempotency-key-reused": (422, "The Idempotency-Key was used with another body"),
    "too-many-requests": (429, "Too many requests are under way"),
    "headers-too-large": (431, "The headers are too large"),
    "internal-error": (500, "Something went wrong here"),
    "service-unavailable": (503, "A part of the platform is not reachable"),
    "log-unavailable": (503, "The command log is not reachable"),
    "not-yet-consistent": (503, "The view has not reached the consistency token"),
    "overloaded": (503, "Too many requests are open"),
    "draining": (503, "This instance is shutting down"),
}

#: The slug that answers a bare HTTP status, e.g. one raised by the framework.
BY_STATUS: Final[dict[int, str]] = {
    400: "malformed-request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    408: "request-timeout",
    409: "conflict",
    413: "body-too-large",
    414: "uri-too-long",
    415: "unsupported-media-type",
    422: "validation-failed",
    429: "too-many-requests",
    431: "headers-too-large",
    503: "service-unavailable",
}

#: How many field errors one body lists.
MAX_ERRORS: Final = 20
_MAX_POINTER: Final = 256


class ProblemError(Exception):
    """A refusal on its way to the client. ``pointer`` is a JSON Pointer, a header's name or ``?parameter``."""

    def __init__(
        self,
        slug: str,
        detail: str = "",
        *,
        pointer: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        status: int | None = None,
        title: str | None = None,
    ) -> None:
        super().__init__(slug)
        known_status, known_title = EDGE.get(slug, (400, title_of(slug)))
        self.slug = slug
        self.status = status or known_status
        self.title = title or known_title
        self.detail = detail
        self.pointer = pointer
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def body(self) -> bytes:
        """JSON bytes of the problem; absent members are left out."""
        return body(
            self.slug,
            self.detail,
            pointer=self.pointer,
            extra=self.extra,
            status=self.status,
            title=self.title,
        )

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """ASGI headers that go with :meth:`body`."""
        out = [(b"content-type", MEDIA_TYPE.encode())]
        out += [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in self.headers.items()]
        return out


def title_of(slug: str) -> str:
    """Title of a domain's reason: ``insufficient-funds`` -> ``Insufficient funds``."""
    return slug.replace("-", " ").capitalize()


def body(
    slug: str,
    detail: str = "",
    *,
    pointer: str | None = None,
    extra: Mapping[str, Any] | None = None,
    status: int | None = None,
    title: str | None = None,
) -> bytes:
    """JSON bytes of a problem of type ``slug``; ``extra`` holds extension members."""
    known_status, known_title = EDGE.get(slug, (400, title_of(slug)))
    out: dict[str, Any] = {
        "type": PROBLEM_BASE + slug,
        "title": title or known_title,
        "status": status or known_status,
    }
    if detail:
        out["detail"] = detail
    if pointer is not None:
        out["pointer"] = pointer[:_MAX_POINTER]
    if extra:
        out.update(extra)
    return orjson.dumps(out)


def pointer_of(location: Sequence[int | str]) -> str:
    """JSON Pointer (RFC 6901) of a pydantic error location; ``""`` is the whole body."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in location)
    return "".join(f"/{part}" for part in parts)[:_MAX_POINTER]


def validation_problem(errors: Sequence[ErrorDetails], prefix: str = "") -> ProblemError:
    """The problem for a body that pydantic refused: each field with a pointer, never the input itself."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return ProblemError("malformed-json", _json_detail(first), pointer="")
    listed = [
        {"pointer": prefix + pointer_of(error["loc"]), "detail": error["msg"][:200], "code": error["type"]}
        for error in errors[:MAX_ERRORS]
    ]
    return ProblemError(
        "validation-failed",
        first["msg"][:200],
        pointer=str(listed[0]["pointer"]),
        extra={"errors": listed, "error_count": len(errors)},
    )


def _json_detail(error: ErrorDetails) -> str:
    reason = str((error.get("ctx") or {}).get("error", error["msg"]))
    return f"Invalid JSON: {reason[:160]}"
