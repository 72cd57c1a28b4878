"""RFC 9457 problem details with stable ``type`` URIs; each has a section in ``docs/reference/problems.md``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

PROBLEM_BASE = "https://nexafi.dev/problems/"
MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """A refusal or failure in the form of RFC 9457."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=[PROBLEM_BASE + "insufficient-funds"])
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = ""
    instance: str | None = None
    pointer: str | None = Field(
        default=None, description="JSON Pointer (RFC 6901) to the field, or a header's name."
    )

    def body(self) -> dict[str, Any]:
        """Members to send; absent ones are left out."""
        return self.model_dump(exclude_none=True)
