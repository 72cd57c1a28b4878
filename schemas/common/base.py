"""Base model of all contracts and the scalar types they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

_UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

#: A canonical lower-case UUID as text.
Id = Annotated[str, StringConstraints(pattern=_UUID_PATTERN)]
#: A currency (ISO 4217) or registered asset code.
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{2,11}$")]
#: Microseconds since 1970-01-01T00:00:00Z, up to the end of the year 9999: what RFC 3339 and every reader can express.
MAX_MICROS = 253_402_300_799_999_999
Micros = Annotated[int, Field(strict=True, ge=0, le=MAX_MICROS)]
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
_NO_CONTROLS = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
Text = Annotated[str, StringConstraints(max_length=1024, pattern=_NO_CONTROLS)]
#: A name that people read, one to 128 characters without control characters.
Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_NO_CONTROLS)]
MAX_METADATA = 32
#: Flat metadata of a caller: at most 32 entries. Control characters are refused (PostgreSQL can not store U+0000).
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_NO_CONTROLS)],
        Annotated[str, StringConstraints(max_length=512, pattern=_NO_CONTROLS)],
    ],
    Field(max_length=MAX_METADATA),
]


# The slots that ``BaseModel.model_construct`` fills, as descriptors: `Contract.trusted` sets them directly.
_new = object.__new__
_set_values = BaseModel.__dict__["__dict__"].__set__
_set_fields_set = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__


class Contract(BaseModel):
    """A value that crosses a process. Unknown fields are refused, so nothing is assigned by accident."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    _field_names: ClassVar[set[str]]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls._field_names = set(cls.model_fields)

    @classmethod
    def trusted(cls, values: dict[str, Any]) -> Self:
        """An instance of ``values``, unchecked and not copied: **every** field in the order of the model, defaults too.

        For hot paths that build an event from parts which were validated before; like ``model_construct``
        but four times as fast (0.5 us against 2 us for four fields). :meth:`maker` is faster still.
        """
        model = _new(cls)
        _set_values(model, values)
        _set_fields_set(model, cls._field_names)
        _set_extra(model, None)
        _set_private(model, None)
        return model

    @classmethod
    def maker(cls) -> Callable[[dict[str, Any]], Self]:
        """:meth:`trusted` of this class as a plain function to keep in a module (0.35 us a call)."""
        names = cls._field_names

        def make(values: dict[str, Any]) -> Any:
            model = _new(cls)
            _set_values(model, values)
            _set_fields_set(model, names)
            _set_extra(model, None)
            _set_private(model, None)
            return model

        return make


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
