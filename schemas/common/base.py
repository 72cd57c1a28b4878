"""Base model of all contracts and the scalar types they share."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

_UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

#: A canonical lower-case UUID as text.
Id = Annotated[str, StringConstraints(pattern=_UUID_PATTERN)]
#: A currency (ISO 4217) or registered asset code.
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{2,11}$")]
#: Microseconds since 1970-01-01T00:00:00Z.
Micros = Annotated[int, Field(strict=True, ge=0, lt=2**62)]
#: Amounts are bounded to 38 decimal digits.
MAX_AMOUNT = 10**38 - 1
#: A positive number of minor units. JSON floats and strings are refused.
Amount = Annotated[int, Field(strict=True, gt=0, le=MAX_AMOUNT)]
#: A signed number of minor units.
SignedAmount = Annotated[int, Field(strict=True, ge=-MAX_AMOUNT, le=MAX_AMOUNT)]
#: A short code chosen by a caller: account codes, references.
Code = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$")
]
#: Free text of a caller; control characters are refused.
Text = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")]
#: Flat metadata of a caller: at most 32 entries.
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=32),
]


class Contract(BaseModel):
    """A value that crosses a process. Unknown fields are refused, so nothing is assigned by accident."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Command(Contract):
    """Something a caller wants; it may be refused. ``TYPE`` is its CloudEvents type."""

    TYPE: ClassVar[str]


class Event(Contract):
    """Something that happened. ``TYPE`` is its CloudEvents type, ``<service>.<fact>.v<N>``.

    Readers tolerate fields they do not know: additive changes stay inside a version.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)
    TYPE: ClassVar[str]

    def to_json(self) -> bytes:
        """Canonical JSON bytes as stored and hashed: field order of the model, no spaces, no nulls dropped."""
        serializer: Any = self.__pydantic_serializer__
        return serializer.to_json(self)  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read stored or received bytes as a tolerant reader: unknown fields are ignored at every depth."""
        return cls.model_validate_json(data, extra="ignore")
