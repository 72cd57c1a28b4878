"""What a domain's refusal is over HTTP: the reason becomes the problem's type, this table gives the status.

422 is the rule: the request was understood and can not be carried out. 404 is for what does not exist (or is
another tenant's, which looks the same), 409 for what the present state forbids and another state may allow,
403 for what only a part of the platform may do.
"""

from __future__ import annotations

from typing import Any, Final

from nexafi.problems import ProblemError

_NOT_FOUND: Final = (
    "ledger-not-found account-not-found transaction-not-found hold-not-found payment-not-found refund-not-found "
    "template-not-found case-not-found client-not-found key-not-found"
).split()
_CONFLICT: Final = (
    "account-closed account-not-empty account-has-holds code-taken already-claimed already-reversed already-recorded "
    "case-closed hold-closed hold-expired payment-posted payment-closed payment-not-settled "
    "payment-not-in-review client-disabled key-revoked balance-outside-limits condition-not-met insufficient-funds "
    "ceiling-exceeded nothing-left-to-refund refund-exceeds-captured amount-exceeds-hold account-outside-chart "
    "asset-known rate-not-found rate-too-old period-closed period-already-closed period-not-closed sources-insufficient "
    "template-changed"
).split()
_FORBIDDEN: Final = "internal-command saga-only".split()

STATUS: Final[dict[str, int]] = (
    dict.fromkeys(_NOT_FOUND, 404) | dict.fromkeys(_CONFLICT, 409) | dict.fromkeys(_FORBIDDEN, 403)
)
DEFAULT_STATUS: Final = 422


def refusal(
    result: dict[str, Any], *, wrap: str | None = None, path_fields: tuple[str, ...] = ()
) -> ProblemError:
    """The problem of a stored refusal ``{"reason", "detail", "pointer"}``.

    The domain points into the command; the client sees a body (``wrap``: only that field of the command) and
    a path, so the pointer is turned to where the client wrote the value.
    """
    reason = str(result.get("reason", "refused"))
    pointer = result.get("pointer")
    if isinstance(pointer, str):
        pointer = _client_pointer(pointer, wrap, path_fields)
    return ProblemError(
        reason, str(result.get("detail") or ""), pointer=pointer, status=STATUS.get(reason, DEFAULT_STATUS)
    )


def _client_pointer(pointer: str, wrap: str | None, path_fields: tuple[str, ...]) -> str:
    first, _, rest = pointer[1:].partition("/")
    if first in path_fields:
        return f"{{{first}}}"  # a path parameter, as it stands in the route's template
    if wrap is not None and first == wrap:
        return f"/{rest}" if rest else ""
    return pointer
