"""Asking a process of roles whether it is ready."""

from __future__ import annotations

import http.client
import json

_TIMEOUT_S = 2.0


def probe_readyz(host: str, port: int) -> str | None:
    """``None`` when ``/readyz`` says ready, else what it says is wrong."""
    link = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        link.request("GET", "/readyz")
        answer = link.getresponse()
        body = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    finally:
        link.close()
    if answer.status == http.HTTPStatus.OK:
        return None
    problems: dict[str, str] = body.get("problems", {})
    return "; ".join(f"{name}: {why}" for name, why in problems.items()) or "not ready"
